"""A foreign graph: its tensors by name, and the part of it that a bundle needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import onnx

from latentserve.contract import MAX_BATCH_ROWS
from latentserve_training.errors import ExportError
from latentserve_training.export.onnx_model import nodes
from latentserve_training.export.runtime_message import shortened
from latentserve_training.foreign.batch_axis import fixed_rows, free_batch
from latentserve_training.foreign.batch_trial import batch_problem
from latentserve_training.foreign.needed_part import needed_part
from latentserve_training.foreign.onnx_file import VARYING_BATCH, ForeignSession, OnnxFile
from latentserve_training.foreign.outside_weights import is_outside, with_weights_as_inputs
from latentserve_training.foreign.rule import check_rule, lower_ir

_RESHAPES = frozenset({"Reshape", "Identity", "Flatten", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class ForeignGraph:
    """A model, and the file it came from, in which its large weights are left."""

    role: str
    source: OnnxFile
    model: onnx.ModelProto
    """The file's own model, or the part of it that is needed, in a form that bundles allow."""
    own: onnx.ModelProto
    """The same with the file's own batch axis."""
    fixed_rows: int | None = None
    """How many rows a run has, no more and no less; None where it is any number."""
    fixed_because: str = ""
    """Why it takes no other number, for a message."""
    fixed_otherwise: str = ""
    """What to do to have more rows a run, for a message, where the file itself takes any number."""
    freed_rows: int | None = None
    """How many rows a run of the file itself has, where the model takes any number."""

    @classmethod
    def load(cls, role: str, path: Path) -> Self:
        """The graph in `path`, as it is.

        Raises:
            ExportError: the file cannot be read, or is no ONNX.
        """
        try:
            source = OnnxFile.read(path)
        except ExportError as error:
            raise ExportError(f"{role}: {error}") from error
        return cls(role, source, source.model, source.model)

    def part(self, tensors: Sequence[str]) -> Self:
        """The part of the graph that these tensors need, as bundles have it.

        Where nothing is lost by it, the version of the format is lowered, dropout that is told to drop nothing is not
        told, and a batch axis that is fixed is made to vary, if it can be.

        Raises:
            ExportError: it is not valid ONNX, has operators that no bundle may have, or demands too many rows a run.
        """
        try:
            model = needed_part(self.source.model, tensors)
            _quiet_idle_dropout(model)
            lower_ir(model)
            check_rule(model, tensors)
            onnx.checker.check_model(with_weights_as_inputs(model), full_check=True)
        except ExportError as error:
            raise ExportError(f"{self.role}: {error}") from error
        except Exception as error:  # protobuf and the checker each raise their own
            message = f"{self.role}: {self.source.path}: not ONNX that can be used: {shortened(error)}"
            raise ExportError(message) from error
        return replace(self, model=model, own=model)._freed(tensors)

    def _freed(self, tensors: Sequence[str]) -> Self:
        """The graph with a batch axis that varies, or as it is where that cannot be."""
        rows = fixed_rows(self.model.graph.input)
        if rows is None:
            return self
        fixed = replace(self, fixed_rows=rows)
        free = free_batch(self.model, rows)
        try:
            problem = batch_problem(free, self.source, fixed.reference(tensors), tensors)
        except ExportError as error:
            raise ExportError(f"{self.role}: onnxruntime cannot run {self.source.path}: {error}") from error
        if problem:
            if rows > MAX_BATCH_ROWS:
                raise ExportError(
                    f"{self.role}: the graph takes {rows} rows at a time and cannot be made to take others: {problem}; "
                    f"a bundle's may demand {MAX_BATCH_ROWS:,} at most; {VARYING_BATCH}"
                )
            return replace(fixed, fixed_because=problem)
        return replace(self, model=free, freed_rows=rows)

    def row_by_row(self, because: str, otherwise: str) -> Self:
        """The graph with one row a run; why, and what to do to have more, are for messages."""
        return replace(self, fixed_rows=1, freed_rows=None, fixed_because=because, fixed_otherwise=otherwise)

    @property
    def change(self) -> str:
        """A remark on its batch axis, if the file fixes it: whether it was made to vary. For a message; else empty."""
        if self.freed_rows:
            return f"its batch axis, fixed at {self.freed_rows} by the file, was made to vary"
        if not self.fixed_rows:
            return ""
        if self.fixed_otherwise:
            return (
                f"every run has 1 row, for {self.fixed_because}; batches gain nothing; to have them, "
                f"{self.fixed_otherwise}"
            )
        run = "1 row" if self.fixed_rows == 1 else f"{self.fixed_rows} rows"
        return (
            f"every run has {run}, as the file has it, for it cannot be made to take others ({self.fixed_because}); "
            f"batches gain nothing beyond that; to have them, {VARYING_BATCH}"
        )

    @property
    def inputs(self) -> dict[str, onnx.ValueInfoProto]:
        """The graph's inputs by name, without its weights."""
        weights = {tensor.name for tensor in self.model.graph.initializer}
        return {value.name: value for value in self.model.graph.input if value.name not in weights}

    def input(self, name: str) -> onnx.ValueInfoProto:
        """The input of that name.

        Raises:
            ExportError: there is none, or its batch axis is fixed.
        """
        value = self.inputs.get(name)
        if value is None:
            self.check_needed(name)
            raise ExportError(f"{self.role}: no input {name!r}; there are {list(self.inputs)}")
        axes = value.type.tensor_type.shape.dim
        if not axes or (axes[0].HasField("dim_value") and axes[0].dim_value != self.fixed_rows):
            fixed = f"is fixed at {axes[0].dim_value}" if axes else "is missing"
            raise ExportError(f"{self.role}: the batch axis of {name!r} {fixed}; {VARYING_BATCH}")
        return value

    def check_needed(self, name: str | None) -> None:
        """Raise ExportError if the file has such an input, but no tensor that is taken from it depends on that."""
        if name not in self.inputs and name in {value.name for value in self.source.model.graph.input}:
            taken = [value.name for value in self.model.graph.output]
            raise ExportError(f"{self.role}: none of {taken} depends on the input {name!r}; leave its name out")

    def output(self, name: str | None) -> str:
        """The name of the graph's output: `name`, or the only one.

        Raises:
            ExportError: there is no such output, or more than one to choose from.
        """
        names = [value.name for value in self.model.graph.output]
        if name is None and len(names) != 1:
            raise ExportError(f"{self.role}: outputs are {names}; name the one that is meant")
        if name is not None and name not in names:
            raise ExportError(f"{self.role}: no output {name!r}; there are {names}")
        return name or names[0]

    def tensor(self, name: str) -> str:
        """`name`, checked to be an output or an inner tensor of the graph.

        Raises:
            ExportError: no node makes such a tensor.
        """
        if not any(name in node.output for node in self.model.graph.node):
            raise ExportError(f"{self.role}: no tensor {name!r}; it must be what a node gives")
        return name

    def logits_of(self, name: str) -> str | None:
        """The input of the Sigmoid whose output, perhaps reshaped, is the tensor; None if no Sigmoid gives it."""
        makers = {output: node for node in self.model.graph.node for output in node.output}
        while (node := makers.get(name)) is not None:
            if node.op_type == "Sigmoid":
                return str(node.input[0])
            if node.op_type not in _RESHAPES:
                return None
            name = node.input[0]
        return None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The tensor's shape without its batch axis; None if it is not known."""
        value = self.inferred.get(name)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        axes = value.type.tensor_type.shape.dim[1:]
        return tuple(axis.dim_value for axis in axes) if all(axis.dim_value > 0 for axis in axes) else None

    @cached_property
    def inferred(self) -> dict[str, onnx.ValueInfoProto]:
        """What is known of the element types and shapes of inputs, outputs and inner tensors, by their names."""
        graph = onnx.shape_inference.infer_shapes(self.model).graph
        values = (*graph.value_info, *graph.output, *graph.input)
        return {value.name: value for value in values}

    def reference(self, names: Sequence[str]) -> ForeignSession:
        """A session of the file itself that computes these tensors.

        Raises:
            ExportError: onnxruntime cannot run it.
        """
        try:
            return self.source.reference(self.own, names, self.fixed_rows or self.freed_rows)
        except ExportError as error:
            raise ExportError(f"{self.role}: {self.source.path}: {error}") from error


def _quiet_idle_dropout(model: onnx.ModelProto) -> None:
    """Take away the flags of dropout that are constant and say that nothing is dropped, as is so without them."""
    for node in _idle_dropout(model):
        del node.input[1:]


def _idle_dropout(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes whose constant flag says that they drop nothing."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer if not is_outside(tensor)}
    constants |= {node.output[0]: node.attribute[0].t for node in nodes(model) if node.op_type == "Constant"}
    flagged = [node for node in nodes(model) if node.op_type == "Dropout" and "".join(node.input[2:3]) in constants]
    return [node for node in flagged if not onnx.numpy_helper.to_array(constants[node.input[2]]).any()]
