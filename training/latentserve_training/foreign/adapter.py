"""ONNX nodes around a foreign graph that give it a bundle's inputs and outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from latentserve_training.export.onnx_model import strip
from latentserve_training.export.plan import BATCH
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.label import LabelInput
from latentserve_training.foreign.older_nodes import respell

_PREFIX = "imported/"


@dataclass
class Adapter:
    """Nodes around a foreign graph, whose own names get a prefix so that none collide."""

    graph: ForeignGraph
    _before: list[onnx.NodeProto] = field(default_factory=list)
    _after: list[onnx.NodeProto] = field(default_factory=list)
    _constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    _inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    _outputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def feed(
        self, name: str, shape: tuple[int, ...], foreign: onnx.ValueInfoProto, scale: float, offset: float
    ) -> None:
        """Add the input `name` [batch, *shape]; the foreign input gets scale * it + offset, in its own shape."""
        self._inputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [BATCH, *shape]))
        value = self._affine(name, scale, offset, f"{name}_in_range", self._before)
        rank = len(foreign.type.tensor_type.shape.dim)
        target = self.graph.shape(foreign.name) or (shape if rank == 1 + len(shape) else (math.prod(shape),))
        self._reshape(value, target, _PREFIX + foreign.name, self._before)

    def feed_label(self, foreign: LabelInput | None) -> None:
        """Add the input `label` int64 [batch]; the foreign label input, if any, gets it in its own form."""
        self._inputs.append(helper.make_tensor_value_info("label", onnx.TensorProto.INT64, [BATCH]))
        if foreign is None:
            return
        if foreign.one_hot:
            count = self.constant("label/count", np.array(foreign.count, np.int64))
            levels = self.constant("label/levels", np.array([0, 1], np.float32))
            self._before.append(helper.make_node("OneHot", ["label", count, levels], ["label_in_form"], axis=-1))
        else:
            self._before.append(helper.make_node("Cast", ["label"], ["label_in_form"], to=foreign.dtype))
        self._reshape("label_in_form", foreign.shape, _PREFIX + foreign.name, self._before)

    def take(self, foreign: str, shape: tuple[int, ...], name: str, scale: float = 1.0, offset: float = 0.0) -> str:
        """Add a tensor scale * the foreign tensor + offset, in `shape`; returns its name."""
        flat = self._affine(_PREFIX + foreign, scale, offset, f"{name}_unshaped", self._after)
        self._reshape(flat, shape, name, self._after)
        return name

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node after the foreign graph; returns the name of its output."""
        self._after.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant; returns its name."""
        self._constants[name] = value
        return name

    def give(self, name: str, shape: tuple[int, ...], dtype: int = onnx.TensorProto.FLOAT) -> None:
        """Declare `name` [batch, *shape] an output."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, [BATCH, *shape]))

    def write(self, path: Path) -> None:
        """Write the adapted graph."""
        model = onnx.compose.add_prefix(self.graph.model, _PREFIX)
        graph = model.graph
        fed = {name for node in self._before for name in node.output}
        assert {_PREFIX + name for name in self.graph.inputs} <= fed, "every input of the foreign graph is fed"
        own = [*self._before, *graph.node, *self._after]
        for field_name, content in (("node", own), ("input", self._inputs), ("output", self._outputs)):
            del getattr(graph, field_name)[:]
            getattr(graph, field_name).extend(content)
        del graph.value_info[:]
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self._constants.items())
        graph.name = self.graph.role
        respell(model)
        strip(model)
        onnx.save(model, path)

    def _affine(self, name: str, scale: float, offset: float, result: str, place: list[onnx.NodeProto]) -> str:
        for operator, number, neutral in (("Mul", scale, 1.0), ("Add", offset, 0.0)):
            if number != neutral:
                constant = self.constant(f"{result}/{operator}", np.array(number, np.float32))
                place.append(helper.make_node(operator, [name, constant], [f"{result}/{operator}ed"]))
                name = f"{result}/{operator}ed"
        return name

    def _reshape(self, name: str, shape: tuple[int, ...], result: str, place: list[onnx.NodeProto]) -> None:
        target = self.constant(f"{result}/shape", np.array([-1, *shape], np.int64))
        place.append(helper.make_node("Reshape", [name, target], [result]))
