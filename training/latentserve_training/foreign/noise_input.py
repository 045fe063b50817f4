"""A noise input of a foreign decoder: drawn anew for every row, as StyleGAN's is."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from onnx import TensorProto

from latentserve.contract import MAX_LATENT_DIM, TENSORS
from latentserve_training.errors import ExportError
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.nodes import Nodes
from latentserve_training.foreign.tensor import FLOATS, signature


@dataclass(frozen=True)
class NoiseInput:
    """The input of a graph for rows of N(0, 1)."""

    name: str
    tensor: str
    """What a bundle calls it."""
    dtype: int
    """One of onnx.TensorProto's data types."""
    shape: tuple[int, ...]
    """The shape of one row."""

    @classmethod
    def of(cls, graph: ForeignGraph, name: str, taken: Collection[str]) -> NoiseInput:
        """The graph's input of that name, which a bundle calls so, too, unless that name is taken.

        Raises:
            ExportError: there is none, its batch axis is fixed, or it is no float of a known shape that bundles allow.
        """
        value = graph.input(name)
        dtype, shape = value.type.tensor_type.elem_type, graph.shape(name)
        if dtype not in FLOATS or shape is None:
            raise ExportError(
                f"{graph.role}.noise: {name!r} is {signature(value)}; noise is float32, float16 or float64, of a shape "
                "that the file says"
            )
        if math.prod(shape) > MAX_LATENT_DIM:
            raise ExportError(
                f"{graph.role}.noise: {name!r} is {signature(value)}, {math.prod(shape):,} values a row; at most "
                f"{MAX_LATENT_DIM:,} are allowed"
            )
        return cls(name, f"noise/{name}" if name in taken else name, dtype, shape)

    def feed(self, nodes: Nodes, target: str) -> None:
        """Add what gives the foreign tensor `target` the bundle's noise."""
        nodes.rename(nodes.cast(self.tensor, TensorProto.FLOAT, self.dtype), target)


def noise_inputs(graph: ForeignGraph, names: Sequence[str] | None, taken: Sequence[str] = ()) -> tuple[NoiseInput, ...]:
    """The inputs that the description calls noise; a bundle's other tensors, and `taken`, have names of their own.

    Raises:
        ExportError: one cannot be noise.
    """
    return tuple(NoiseInput.of(graph, name, (*TENSORS, *taken)) for name in names or ())
