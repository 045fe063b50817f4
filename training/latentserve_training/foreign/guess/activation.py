"""The last activation in front of a tensor, and the range in which it keeps its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import numpy_helper

from latentserve_training.foreign.outside_weights import is_outside

_MOVES = frozenset({"Reshape", "Identity", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Slice", "Dropout"})
"""Operators that give values of their first input, and no others."""
_BOUNDED = {"Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
_FARTHEST = 32
"""How many nodes may lie between the activation and the tensor."""
_AFFINE = frozenset({"Add", "Sub", "Mul", "Div"})


@dataclass(frozen=True)
class Bounds:
    """The range of a tensor's values, and the operator that keeps them in it."""

    low: float
    high: float
    operator: str

    def mapped(self, scale: float, offset: float) -> Bounds:
        """Those of scale * x + offset."""
        low, high = sorted((scale * self.low + offset, scale * self.high + offset))
        return Bounds(low, high, self.operator)


@dataclass(frozen=True)
class Activations:
    """The nodes of a graph, asked for what bounds a tensor."""

    graph: onnx.GraphProto

    def bounds(self, name: str, farthest: int = _FARTHEST) -> Bounds | None:
        """What bounds the tensor: a Sigmoid, Tanh or Clip, perhaps moved, and scaled by constants; else None."""
        node = self._makers.get(name)
        if node is None or not node.input or not farthest:
            return None
        if node.op_type in _BOUNDED:
            return Bounds(*_BOUNDED[node.op_type], node.op_type)
        if node.op_type == "Clip":
            limits = [self._limit(node, place, word) for place, word in ((1, "min"), (2, "max"))]
            low, high = limits
            return None if low is None or high is None else Bounds(low, high, "Clip")
        if node.op_type in _MOVES:
            return self.bounds(node.input[0], farthest - 1)
        return self._scaled(node, farthest - 1) if node.op_type in _AFFINE else None

    def _scaled(self, node: onnx.NodeProto, farthest: int) -> Bounds | None:
        """The bounds of a sum, difference, product or quotient with one number."""
        if len(node.input) != 2:
            return None
        first, second = (self._number(name) for name in node.input)
        if (first is None) == (second is None) or (node.op_type == "Div" and second is None):
            return None
        number = first if second is None else second
        assert number is not None, "one of both is a number"
        own = self.bounds(node.input[1] if second is None else node.input[0], farthest)
        if own is None or (node.op_type == "Div" and number == 0):
            return None
        if node.op_type in ("Mul", "Div"):
            return own.mapped(1 / number if node.op_type == "Div" else number, 0)
        if node.op_type == "Add":
            return own.mapped(1, number)
        return own.mapped(-1, number) if second is None else own.mapped(1, -number)

    def _limit(self, node: onnx.NodeProto, place: int, word: str) -> float | None:
        """A limit of a Clip, which older operator sets have as an attribute."""
        if place < len(node.input):
            return self._number(node.input[place])
        return next((attribute.f for attribute in node.attribute if attribute.name == word), None)

    def _number(self, name: str) -> float | None:
        """The number that a constant holds everywhere; None if it is another tensor."""
        tensor = self._constants.get(name)
        if tensor is None or is_outside(tensor):
            return None
        values = numpy_helper.to_array(tensor)
        same = values.size > 0 and values.dtype.kind in "fiu" and bool((values == values.flat[0]).all())
        return float(np.float64(values.flat[0])) if same else None

    @cached_property
    def _makers(self) -> Mapping[str, onnx.NodeProto]:
        return {name: node for node in self.graph.node for name in node.output}

    @cached_property
    def _constants(self) -> Mapping[str, onnx.TensorProto]:
        held = {node.output[0]: node.attribute[0].t for node in self.graph.node if node.op_type == "Constant"}
        return held | {tensor.name: tensor for tensor in self.graph.initializer}
