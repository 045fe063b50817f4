"""A model's latents: rows of numbers or codes for callers, and what the graphs have, in their own shape and scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from latentserve_training.errors import ExportError
from latentserve_training.foreign.affine import Affine
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.nodes import Nodes
from latentserve_training.foreign.tensor import (
    FLOATS,
    as_rows,
    batch_of,
    dtype_of,
    require_size,
    row_shape,
    signature,
)

_INTEGERS = (TensorProto.INT64, TensorProto.INT32)


@dataclass(frozen=True)
class Latents:
    """Latents of one model, and the tensors of its graphs that hold them."""

    sides: tuple[int, ...]
    """The shape of one latent in the graphs."""
    to_own: Affine
    """From the callers' numbers to the graphs'; of codes nothing."""
    codes: int
    """Entries of the codebook that latents are indices of; 0 where they are numbers."""
    option: str
    """The option that tells the size, for messages."""

    @classmethod
    def of(cls, description: ForeignModel) -> Latents:
        """The described model's."""
        sides, option = description.latent_sides, description.latent_option
        return cls(sides, description.to_own_latents, description.codes or 0, option)

    @property
    def name(self) -> str:
        """What a bundle calls the decoder's input."""
        return "codes" if self.codes else "latent"

    @property
    def size(self) -> int:
        """How many numbers or codes one has."""
        return int(np.prod(self.sides))

    @property
    def dtype(self) -> int:
        """The element type in a bundle, one of onnx.TensorProto's."""
        return int(TensorProto.INT64 if self.codes else TensorProto.FLOAT)

    @property
    def allowed(self) -> tuple[int, ...]:
        """The element types in a foreign graph."""
        return _INTEGERS if self.codes else FLOATS

    def draw(self, random: np.random.Generator, rows: int) -> NDArray[Any]:
        """Rows for callers: of N(0, I), or codes of which each is as likely as any other."""
        if self.codes:
            return random.integers(self.codes, size=(rows, self.size), dtype=np.int64)
        return random.standard_normal((rows, self.size), dtype=np.float32)

    def own(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The callers' rows as the graphs have them."""
        return (rows if self.codes else self.to_own(rows)).reshape(len(rows), *self.sides)

    def callers(self, values: NDArray[Any], where: str) -> NDArray[Any]:
        """Rows for callers, float32 or int64, of what a graph or a file holds.

        Raises:
            ExportError: they have another shape, or are codes beyond the codebook.
        """
        rows = as_rows(values, len(values), self.sides, where).reshape(len(values), self.size)
        if not self.codes:
            return self.to_own.inverse(rows).astype(np.float32)
        low, high = int(rows.min()), int(rows.max())
        if low < 0 or high >= self.codes:
            raise ExportError(f"{where} holds {low} to {high}; codes are 0 to {self.codes - 1}, `codes: {self.codes}`")
        return rows.astype(np.int64)

    def check(self, graph: ForeignGraph, name: str) -> None:
        """Raise ExportError if the tensor is known to have another shape, or size if only that is described.

        Of one whose size varies, the description must say the shape.
        """
        port = graph.inputs.get(name)
        if port is not None and not self._settles(port):
            given = [*self.sides] if self.option == "latent_shape" else self.size
            raise ExportError(
                f"{graph.role}: {name!r} is {signature(port)}, of no one size, and a bundle has one; {self.option} "
                f"{given} does not say which: set latent_shape, and import each other size as a model of its own"
            )
        require_size(graph, name, self.size, self.option)
        found = graph.shape(name)
        if found is not None and self.option == "latent_shape" and found != self.sides:
            raise ExportError(f"{graph.role}: {name!r} is {batch_of(found)}, which is not latent_shape {[*self.sides]}")

    def _settles(self, port: onnx.ValueInfoProto) -> bool:
        """Whether an input has one shape for these latents, where it is known how many sides it has."""
        tensor = port.type.tensor_type
        sides = [axis.dim_value for axis in tensor.shape.dim[1:]]
        if not tensor.HasField("shape") or 0 not in sides:
            return True
        if len(sides) == len(self.sides) and all(side in (0, own) for side, own in zip(sides, self.sides, strict=True)):
            return True
        return sides.count(0) == 1 and self.size % math.prod(side for side in sides if side) == 0

    def feed(self, nodes: Nodes, source: onnx.ValueInfoProto) -> str:
        """Add what turns a bundle's input into what the foreign one takes."""
        fed = self.name if self.codes else nodes.affine(self.name, self.to_own)
        fed = nodes.cast(fed, self.dtype, source.type.tensor_type.elem_type)
        own = row_shape(source, self.sides)
        return fed if own == (self.size,) else nodes.reshape(fed, own)

    def take(self, nodes: Nodes, value: str, dtype: int) -> str:
        """Add what turns a foreign tensor of that element type into rows for callers."""
        taken = nodes.cast(value, dtype, self.dtype)
        return nodes.reshape(taken if self.codes else nodes.affine(taken, self.to_own.inverse), (self.size,))


@dataclass(frozen=True)
class LatentTensor:
    """An output of a foreign graph that holds latents."""

    name: str
    dtype: int
    """One of onnx.TensorProto's data types."""
    latents: Latents

    @property
    def dtypes(self) -> dict[str, int]:
        """The element type by the tensor's name, where it is one of floats."""
        return {} if self.latents.codes else {self.name: self.dtype}

    @classmethod
    def of(cls, graph: ForeignGraph, name: str, latents: Latents) -> LatentTensor:
        """The graph's output of that name.

        Raises:
            ExportError: it has another shape, or element type.
        """
        latents.check(graph, name)
        return cls(name, dtype_of(graph, name, latents.allowed), latents)
