"""ONNX nodes around a foreign graph that give it a bundle's inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from latentserve_training.export.onnx_model import strip
from latentserve_training.export.plan import BATCH
from latentserve_training.foreign.bundle_file import write_model
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.nodes import Nodes
from latentserve_training.foreign.older_nodes import respell

_PREFIX = "imported/"


@dataclass
class Adapter:
    """Nodes around a foreign graph, whose own names get a prefix so that none collide."""

    graph: ForeignGraph
    before: Nodes = field(default_factory=lambda: Nodes("before"))
    after: Nodes = field(default_factory=lambda: Nodes("after"))
    _inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    _outputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    @property
    def _batch(self) -> int | str:
        return self.graph.fixed_rows or BATCH

    def ask(self, name: str, shape: tuple[int, ...], dtype: int = TensorProto.FLOAT) -> str:
        """Add the input `name` [batch, *shape]; returns the name."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, [self._batch, *shape]))
        return name

    def give(self, value: str, name: str, shape: tuple[int, ...], dtype: int = TensorProto.FLOAT) -> str:
        """Add the output `name` [batch, *shape], which is the tensor; returns the name."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, [self._batch, *shape]))
        return self.after.rename(value, name)

    def own(self, name: str) -> str:
        """What a tensor of the foreign graph is called here."""
        return _PREFIX + name

    def write(self, path: Path, outputs: Sequence[str]) -> None:
        """Write the adapted graph, its outputs in that order."""
        model = onnx.compose.add_prefix(self.graph.model, _PREFIX)
        graph = model.graph
        fed = {name for node in self.before.nodes for name in node.output}
        fed |= {constant.name for constant in self.before.constants}
        assert {self.own(name) for name in self.graph.inputs} <= fed, "every input of the foreign graph is fed"
        given = sorted(self._outputs, key=lambda value: outputs.index(value.name))
        nodes = [*self.before.nodes, *graph.node, *self.after.nodes]
        for field_name, content in (("node", nodes), ("input", self._inputs), ("output", given)):
            del getattr(graph, field_name)[:]
            getattr(graph, field_name).extend(content)
        del graph.value_info[:]
        graph.initializer.extend([*self.before.constants, *self.after.constants])
        graph.name = self.graph.role
        respell(model)
        strip(model)
        write_model(model, self.graph.source.path.parent, path)
