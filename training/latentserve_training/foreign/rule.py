"""The rule for a bundle's graphs, held to a foreign one: operators that ONNX has, and of these the allowed ones."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from latentserve.onnx.graph_rule import IR_VERSIONS, Fault, GraphRuleError, OperatorRuleError, check_graph
from latentserve_training.errors import ExportError
from latentserve_training.export.onnx_model import nodes, opset, tensors
from latentserve_training.foreign.needed_part import needed_part
from latentserve_training.foreign.outside_weights import with_weights_as_inputs

_NAMED_IR = 14
"""The newest version of the format of which it is known what came with it: two element types, and opaque ones."""
_CAME_WITH_IT = frozenset({onnx.TensorProto.FLOAT6E2M3, onnx.TensorProto.FLOAT6E3M2})
_INSTEAD = {"Erfc": "erfc(x) as 1 - erf(x)", "ScaleAndTranslate": "a resize without antialiasing"}
"""What ONNX has in the place of operators that exporters are known to leave."""
_CHANGES = {
    Fault.FOREIGN: "export the model in ONNX's own operators, before a runtime optimises it",
    Fault.RANDOM: "name a tensor from before the noise, or export the model with the noise as part of its latents",
    Fault.ENDLESS: "export the model with the loop unrolled",
    Fault.TRAINING: "export the model for inference, in PyTorch after eval()",
}


def lower_ir(model: onnx.ModelProto) -> None:
    """Give the model a version of the format that bundles may have, where it has nothing that this one lacks.

    Below the oldest it has no operator set to go by, and above the newest known who knows what it has.
    """
    types = {tensor.data_type for tensor in tensors(model)}
    types |= {attribute.i for node in nodes(model) for attribute in node.attribute if attribute.name in ("to", "dtype")}
    if model.ir_version == _NAMED_IR and types.isdisjoint(_CAME_WITH_IT):
        model.ir_version = IR_VERSIONS[-1]


def check_rule(model: onnx.ModelProto, wanted: Sequence[str]) -> None:
    """Hold the model, in which the wanted tensors are computed, to the rule for a bundle's graphs.

    Raises:
        ExportError: it breaks it; the message has the operator, a tensor that depends on it, and what to change.
    """
    try:
        check_graph(with_weights_as_inputs(model).SerializeToString())
    except OperatorRuleError as error:
        depends = next(name for name in wanted if _breaks_rule(needed_part(model, [name])))
        raise ExportError(f"{error}; {depends!r} depends on it: {_CHANGES[error.fault]}") from error
    except GraphRuleError as error:
        raise ExportError(str(error)) from error
    _check_known(model)


def _breaks_rule(part: onnx.ModelProto) -> bool:
    del part.graph.initializer[:]
    try:
        check_graph(part.SerializeToString())
    except OperatorRuleError:
        return True
    except GraphRuleError:  # nothing is computed
        return False
    return False


def _check_known(model: onnx.ModelProto) -> None:
    """Raise ExportError at the first operator that ONNX does not have in the model's operator set."""
    own = opset(model)
    for node in nodes(model):
        known = onnx.defs.has(node.op_type, own, "") and not onnx.defs.get_schema(node.op_type, own, "").deprecated
        if not known:
            name = node.name or next(iter(node.output), "")
            instead = _INSTEAD.get(node.op_type, "the layer in operators that it has")
            raise ExportError(
                f"the graph's operator {node.op_type!r} at {name!r} is not in ONNX's operator set {own}: export the "
                f"model from another framework or backend, or write {instead}"
            )
