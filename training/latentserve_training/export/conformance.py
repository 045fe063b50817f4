"""The static checks of a bundle's graph: opset, operators, names, batch axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from latentserve.onnx import graph_rule
from latentserve_training.errors import ExportError
from latentserve_training.export.onnx_model import describe_node
from latentserve_training.export.plan import BATCH, WEIGHTS_SUFFIX, GraphPlan


def check_graph(path: Path, plan: GraphPlan) -> None:
    """Check what needs no run: valid ONNX, allowed opset and operators, the plan's names, a dynamic batch axis.

    Raises:
        ExportError: one of these does not hold; the message names the graph, and the node or tensor.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
        content = path.read_bytes()
        model = onnx.load_model_from_string(content)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{plan.role}: not valid ONNX: {error}") from error
    beside = path.with_suffix(WEIGHTS_SUFFIX)
    weights = graph_rule.WeightsFile(beside.name, beside.stat().st_size) if beside.exists() else None
    check_rule(content, plan.role, weights)
    _require_names("inputs", [value.name for value in model.graph.input], list(plan.example), plan.role)
    _require_names("outputs", [value.name for value in model.graph.output], plan.outputs, plan.role)
    for value in (*model.graph.input, *model.graph.output):
        _check_batch_axis(value, inferred, plan)


def check_rule(model: bytes, role: str, weights: graph_rule.WeightsFile | None = None) -> None:
    """Hold a serialized model, whose weights may lie in a file beside it, to the server's rule for graphs.

    Raises:
        ExportError: it breaks the rule; the message names the operator.
    """
    try:
        graph_rule.check_graph(model, weights)
    except graph_rule.GraphRuleError as error:
        raise ExportError(f"{role}: {error}") from error


def _require_names(what: str, found: Sequence[str], wanted: Sequence[str], role: str) -> None:
    if list(found) != list(wanted):
        raise ExportError(f"{role}: {what} are {list(found)}; they must be {list(wanted)}")


def _check_batch_axis(value: onnx.ValueInfoProto, inferred: onnx.ModelProto, plan: GraphPlan) -> None:
    axes, role = value.type.tensor_type.shape.dim, plan.role
    if not axes:
        raise ExportError(f"{role}: {value.name!r} has no batch axis")
    if axes[0].dim_param != BATCH and not (plan.batch_rows and axes[0].dim_value == plan.batch_rows):
        size = axes[0].dim_value or repr(axes[0].dim_param)
        raise ExportError(
            f"{role}: the batch axis of {value.name!r} is fixed at {size}; it must vary ({_culprit(inferred)})"
        )


def _culprit(model: onnx.ModelProto) -> str:
    """The first node whose output loses the batch axis; if there is none, a guess."""
    graph = model.graph
    first_axis = {
        value.name: value.type.tensor_type.shape.dim[0].dim_param
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.shape.dim
    }
    for node in graph.node:
        if any(first_axis.get(name) == BATCH for name in node.input):
            lost = [name for name in node.output if first_axis.get(name, BATCH) != BATCH]
            if lost:
                return f"lost at {describe_node(node)}"
    return "code that uses the batch's size as a Python number fixes it"
