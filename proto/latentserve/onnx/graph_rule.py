"""The rule for a bundle's graphs: nothing foreign, random or endless; and whether its runs always take as long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from google.protobuf.message import DecodeError

from latentserve.onnx import outline_pb2 as outline

OPSETS = range(7, 27)
"""Versions of ONNX's own operator set: those in which Dropout is idle unless it is told, that onnxruntime 1.31 runs."""
IR_VERSIONS = range(3, 14)
"""Versions of ONNX's format: those that name their operator sets, that onnxruntime 1.31 opens."""

_ONNX = ("", "ai.onnx")
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})
_STEADY = frozenset(
    {
        "Abs", "Add", "And", "Attention", "AveragePool", "BatchNormalization", "BitCast", "Cast", "Ceil", "Clip",
        "Concat", "Conv", "ConvInteger", "ConvTranspose", "Cos", "CumProd", "CumSum", "DepthToSpace",
        "DequantizeLinear", "Div", "Dropout",
        "DynamicQuantizeLinear", "Elu", "Equal", "Erf", "Exp", "Flatten", "Floor", "Gather", "Gelu", "Gemm",
        "GlobalAveragePool", "GlobalMaxPool", "Greater", "GroupNormalization", "HardSigmoid", "HardSwish",
        "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less", "Log", "LogSoftmax",
        "MatMul", "MatMulInteger", "Max", "MaxPool", "Mean", "Min", "Mish", "Mul", "Neg", "Not", "Or", "PRelu",
        "Pow", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "RMSNormalization", "Reciprocal", "Relu",
        "RotaryEmbedding", "Round", "Selu", "Shape", "Sigmoid", "Sign", "Softmax", "Softplus", "Softsign",
        "SpaceToDepth", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "TensorScatter", "Transpose", "Where",
    }
)  # fmt: skip
"""Operators whose outputs are as large as their inputs say, whatever the values."""
_SHAPED = frozenset(
    {
        "Expand", "OneHot", "Pad", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Reshape", "Resize", "Slice",
        "Split", "Squeeze", "Tile", "Unsqueeze", "Upsample",
    }
)  # fmt: skip
"""Operators whose further inputs say what shape the output has."""
_DROPOUT_TRAINING_INPUT = 2
_ATTENTION_LENGTHS_INPUT = 6
"""How many keys each row has: with onnxruntime 1.31 a run takes up to four times as long for some."""
_MAX_NAME_CHARACTERS = 100
_ORT_FORMAT = b"ORTM"
_EXTERNAL = 1
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class GraphRuleError(ValueError):
    """A model is not what a bundle's graph may be; the message says why, and names the operator."""


class Fault(Enum):
    """What is wrong with an operator."""

    FOREIGN = "foreign"
    RANDOM = "random"
    ENDLESS = "endless"
    TRAINING = "training"


class OperatorRuleError(GraphRuleError):
    """A model has an operator that a bundle's graph may not have."""

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault


class WeightsFile(NamedTuple):
    """The file beside a graph in which its initializers may lie."""

    name: str
    size_bytes: int


def check_graph(model: bytes, weights: WeightsFile | None = None) -> None:
    """Hold a serialized ONNX model to the rule, without running or loading it.

    Raises:
        OperatorRuleError: it has operators beside ONNX's own, draws random numbers, loops or learns.
        GraphRuleError: it is no ONNX model, or one of other versions than `IR_VERSIONS` and `OPSETS`; or it reads other
            files than its `weights`.
    """
    if model[4:8] == _ORT_FORMAT:  # onnxruntime would take it for a format of its own, which nothing here looks into
        raise GraphRuleError("the graph is in onnxruntime's own format, not in ONNX's")
    try:
        parsed = outline.Model.FromString(model)
    except DecodeError as error:
        raise GraphRuleError("the graph is not an ONNX model") from error
    if not parsed.graph.node:
        raise GraphRuleError("the graph is not an ONNX model with operators")
    if parsed.functions or parsed.training_info:
        raise GraphRuleError("the graph has functions or training information, which a bundle's may not have")
    _check_versions(parsed)
    for graph in _graphs(parsed.graph):
        for node in graph.node:
            _check_operator(node)
        _check_tensors(graph, weights)


def has_steady_cost(model: bytes) -> bool:
    """Whether a run of a graph that `check_graph` lets pass takes as long for any values of its inputs.

    That is so where every operator works on tensors whose shapes follow from the number of rows and from constants.
    """
    graph = outline.Model.FromString(model).graph
    known = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type in _SHAPED:
            if not known.issuperset(inputs[1:]):
                return False
        elif node.op_type not in (*_STEADY, "Constant"):
            return False
        if node.op_type == "Attention" and any(node.input[_ATTENTION_LENGTHS_INPUT:]):
            return False
        if node.op_type == "Shape" or known.issuperset(inputs):
            known.update(node.output)
    return True


def _graphs(graph: outline.Graph) -> Iterator[outline.Graph]:
    """The graph and its subgraphs, at any depth; protobuf's own limit of 100 messages bounds it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def _check_versions(model: outline.Model) -> None:
    opsets = [opset.version for opset in model.opset_import if opset.domain in _ONNX]
    if model.ir_version not in IR_VERSIONS or len(opsets) != 1 or opsets[0] not in OPSETS:
        raise GraphRuleError(
            f"the graph's IR version is {model.ir_version or 'not stated'} and its operator set "
            f"{', '.join(map(str, opsets)) or 'not stated'}; allowed are IR versions {IR_VERSIONS[0]} to "
            f"{IR_VERSIONS[-1]} and operator sets {OPSETS[0]} to {OPSETS[-1]}"
        )


def _check_operator(node: outline.Node) -> None:
    named = f"the graph's operator {_describe(node)}"
    if node.domain not in _ONNX:
        raise OperatorRuleError(f"{named} is of {node.domain!r}, not ONNX's own", Fault.FOREIGN)
    if node.op_type in _RANDOM:
        raise OperatorRuleError(f"{named} draws random numbers; noise is an input", Fault.RANDOM)
    if node.op_type == "Dropout" and any(node.input[_DROPOUT_TRAINING_INPUT:]):
        raise OperatorRuleError(f"{named} draws random numbers; noise is an input", Fault.TRAINING)
    if node.op_type in _LOOPS:
        raise OperatorRuleError(f"{named} loops, so its run may have no end", Fault.ENDLESS)
    # It has further outputs in training mode alone; onnxruntime then keeps statistics from one run to the next.
    if node.op_type == "BatchNormalization" and any(node.output[1:]):
        raise OperatorRuleError(f"{named} is in training mode; rows are independent", Fault.TRAINING)


def _describe(node: outline.Node) -> str:
    """The operator, and its name or first output, as far as a line goes."""
    operator = node.op_type[:_MAX_NAME_CHARACTERS]
    name = (node.name or next(iter(node.output), ""))[:_MAX_NAME_CHARACTERS]
    return f"{operator!r} at {name!r}" if name else repr(operator)


def _check_tensors(graph: outline.Graph, weights: WeightsFile | None) -> None:
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    sparse = [*graph.sparse_initializer]
    tensors = [tensor for tensor in graph.initializer if weights is None or not _lies_in(tensor, weights)]
    for attribute in attributes:
        tensors += [attribute.t, *attribute.tensors]
        sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for one in sparse:
        tensors += [one.values, one.indices]
    outside = next((tensor for tensor in tensors if tensor.data_location or tensor.external_data), None)
    if outside is not None:
        named = f" ({outside.name[:_MAX_NAME_CHARACTERS]!r})" if outside.name else ""
        allowed = (
            f"they may lie in {weights.name!r}, as its initializers" if weights else "external data is not allowed"
        )
        raise GraphRuleError(f"the graph has values outside its file{named}; {allowed}")


def _lies_in(tensor: outline.Tensor, weights: WeightsFile) -> bool:
    """Whether a tensor's values are a part of the weights."""
    settings = {setting.key: setting.value for setting in tensor.external_data}
    if tensor.data_location != _EXTERNAL or len(settings) != len(tensor.external_data):
        return False
    numbers = [settings.pop(key, "0") for key in ("offset", "length")]
    if settings != {"location": weights.name} or not all(_NUMBER.fullmatch(number) for number in numbers):
        return False
    return sum(map(int, numbers)) <= weights.size_bytes
