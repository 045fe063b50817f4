"""A foreign decoder's psi: an input that callers may set, one value for each row of a bundle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from latentserve_training.errors import ExportError
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.nodes import Nodes
from latentserve_training.foreign.shaping_description import ForeignPsi
from latentserve_training.foreign.tensor import FLOATS, as_dtype, signature

PSI = "psi"
"""What a bundle calls it."""


@dataclass(frozen=True)
class PsiInput:
    """The input of a graph for psi: one number for each row, or one for all rows of a run."""

    name: str
    dtype: int
    """One of onnx.TensorProto's data types."""
    has_rows: bool
    """Whether the file takes one number for each row."""
    shape: tuple[int, ...]
    """Its shape in the file, without the batch axis if it has one."""
    fed: tuple[int, ...]
    """The shape, -1 for the rows, in which the bundle's graph takes a bundle's psi there."""

    @classmethod
    def of(cls, graph: ForeignGraph, asked: ForeignPsi) -> PsiInput:
        """The graph's input that the description names.

        Raises:
            ExportError: there is none, or it does not take one number for each row, or for all.
        """
        value = graph.inputs.get(asked.input)
        if value is None:
            graph.check_needed(asked.input)
            raise ExportError(f"decoder: no input {asked.input!r}, shaping.psi; there are {list(graph.inputs)}")
        tensor = value.type.tensor_type
        sides = [axis.dim_value for axis in tensor.shape.dim]
        has_rows = sides[:1] == [0] or (len(sides) > 1 and sides[0] == graph.fixed_rows)
        shape = tuple(sides[1:] if has_rows else sides)
        if tensor.elem_type not in FLOATS or not tensor.HasField("shape") or math.prod(shape) != 1:
            raise ExportError(
                f"decoder: shaping.psi: {asked.input!r} is {signature(value)}; it must be float32, float16 or float64, "
                "[batch] or [batch, 1], or a single number"
            )
        return cls(asked.input, tensor.elem_type, has_rows, shape, (-1, *shape) if has_rows else shape)

    def own(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The values of rows [n], which are all alike where the file takes one for all, as the file takes them."""
        values = as_dtype(rows, self.dtype)
        return values.reshape(len(rows), *self.shape) if self.has_rows else values[:1].reshape(self.shape)

    def alike(self, rows: NDArray[Any]) -> Sequence[NDArray[np.intp]]:
        """The places of values that one run of the file may have together."""
        if self.has_rows:
            return [np.arange(len(rows))]
        return [np.flatnonzero(rows == value) for value in np.unique(rows)]

    def feed(self, nodes: Nodes, target: str) -> None:
        """Add what gives the foreign tensor `target` the bundle's psi."""
        values = nodes.cast(PSI, TensorProto.FLOAT, self.dtype)
        as_taken = values if self.fed == (-1,) else nodes.add("Reshape", values, np.array(self.fed, np.int64))
        nodes.rename(as_taken, target)


def psi_rows(asked: ForeignPsi, count: int) -> NDArray[np.float32]:
    """So many values of the described range in turn: the default, both ends, and the middle."""
    middle = asked.min + (asked.max - asked.min) / 2
    return np.resize(np.array([asked.default, asked.min, asked.max, middle], np.float32), count)
