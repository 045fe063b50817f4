"""ONNX nodes in the order in which they run, and the constants that they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from latentserve_training.foreign.affine import Affine

Operand = str | NDArray[Any] | np.generic
"""The name of a tensor, or a constant."""


@dataclass
class Nodes:
    """A list of nodes that grows; what they are called begins with `prefix`."""

    prefix: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *operands: Operand, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        name = f"{self.prefix}/{len(self.nodes)}/{operator}"
        names = [self._name(operand, f"{name}/{place}") for place, operand in enumerate(operands)]
        self.nodes.append(helper.make_node(operator, names, [name], **attributes))
        return name

    def rename(self, value: str, name: str) -> str:
        """Give the tensor another name, at no cost where the last node gives it; returns the name."""
        if self.nodes and list(self.nodes[-1].output) == [value]:
            self.nodes[-1].output[0] = name
        else:
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        return name

    def hold(self, name: str, value: NDArray[Any]) -> None:
        """Add a constant of that name."""
        self.constants.append(numpy_helper.from_array(value, name))

    def affine(self, value: str, affine: Affine) -> str:
        """scale * value + offset, of a float32 tensor."""
        for operator, number, neutral in (("Mul", affine.scale, 1.0), ("Add", affine.offset, 0.0)):
            if number != neutral:
                value = self.add(operator, value, np.float32(number))
        return value

    def cast(self, value: str, dtype: int, target: int) -> str:
        """The tensor, which is of `dtype`, as `target`; both of onnx.TensorProto's data types."""
        return value if dtype == target else self.add("Cast", value, to=target)

    def split(self, value: str, axis: int) -> tuple[str, str]:
        """The halves of a tensor along an axis."""
        name = self.add("Split", value, axis=axis, num_outputs=2)
        self.nodes[-1].output.append(f"{name}/second")
        return name, f"{name}/second"

    def reshape(self, value: str, row: Sequence[int]) -> str:
        """The tensor as rows of that shape."""
        return self.add("Reshape", value, np.array([-1, *row], np.int64))

    def _name(self, operand: Operand, name: str) -> str:
        if isinstance(operand, str):
            return operand
        self.constants.append(numpy_helper.from_array(np.asarray(operand), name))
        return name
