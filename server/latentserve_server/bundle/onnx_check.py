"""Checks of an ONNX graph before a runtime opens it."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from latentserve.onnx import outline_pb2 as outline
from latentserve_server.errors import BundleError

MIN_OPSET, MAX_OPSET = 18, 20
_ONNX = ("", "ai.onnx")
_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_LOOPS = {"Loop", "Scan", "SequenceMap"}
_DROPOUT_TRAINING_INPUT = 2
_ORT_FORMAT = b"ORTM"


def check_graph(model: bytes) -> None:
    """Hold a serialized ONNX model to what a bundle's graph may be.

    Raises:
        BundleError: it is no ONNX model; its operators are not those of ONNX's own sets 18 to 20; or it reads other
            files, draws random numbers or loops.
    """
    if model[4:8] == _ORT_FORMAT:  # onnxruntime would take it for a format of its own, which nothing here looks into
        raise BundleError("the graph is in onnxruntime's own format, not in ONNX's")
    try:
        parsed = outline.Model.FromString(model)
    except DecodeError as error:
        raise BundleError("the graph is not an ONNX model") from error
    if not parsed.graph.node:
        raise BundleError("the graph is not an ONNX model with operators")
    if parsed.functions or parsed.training_info:
        raise BundleError("the graph has functions or training information, which a bundle's may not have")
    versions = [opset.version for opset in parsed.opset_import if opset.domain in _ONNX]
    if len(versions) != 1 or not MIN_OPSET <= versions[0] <= MAX_OPSET:
        said = ", ".join(map(str, versions)) or "not stated"
        raise BundleError(f"the graph's operator set is {said}; allowed are {MIN_OPSET} to {MAX_OPSET}")
    for graph in _graphs(parsed.graph):
        _check_operators(graph)
        _check_tensors(graph)


def _graphs(graph: outline.Graph) -> Iterator[outline.Graph]:
    """The graph and its subgraphs, at any depth; protobuf's own limit of 100 messages bounds it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def _check_operators(graph: outline.Graph) -> None:
    for node in graph.node:
        if node.domain not in _ONNX:
            raise BundleError(f"the graph's operator {node.op_type!r} is of {node.domain!r}, not ONNX's own")
        draws = node.op_type == "Dropout" and any(node.input[_DROPOUT_TRAINING_INPUT:])
        if node.op_type in _RANDOM or draws:
            raise BundleError(f"the graph's operator {node.op_type!r} draws random numbers; noise is an input")
        if node.op_type in _LOOPS:
            raise BundleError(f"the graph's operator {node.op_type!r} loops, so its run may have no end")


def _check_tensors(graph: outline.Graph) -> None:
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    sparse = [*graph.sparse_initializer]
    tensors = [*graph.initializer]
    for attribute in attributes:
        tensors += [attribute.t, *attribute.tensors]
        sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for one in sparse:
        tensors += [one.values, one.indices]
    if any(tensor.data_location or tensor.external_data for tensor in tensors):
        raise BundleError("the graph has values outside its file; external data is not allowed")
