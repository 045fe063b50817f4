"""The nodes, tensors and operator set of an ONNX model, and its stripping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx

STANDARD_DOMAINS = ("", "ai.onnx")


def opset(model: onnx.ModelProto) -> int:
    """The version of the default operator set; 0 where the model imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), 0)


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node: the graph's, its subgraphs' and those of the model's own functions."""
    yield from _nodes(model.graph.node)
    for function in model.functions:
        yield from _nodes(function.node)


def _nodes(listed: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in listed:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant: the graph's weights, those of its subgraphs, and what nodes hold as attributes."""
    yield from model.graph.initializer
    for node in nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from graph.initializer


def without_idle_dropout(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model; if a constant tells a Dropout to drop nothing, which is its default, a copy without that input."""
    if not _idle_dropout(model):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in _idle_dropout(copy):
        del node.input[1:]
    return copy


def _idle_dropout(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes whose constant flag says that they drop nothing."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in nodes(model) if node.op_type == "Constant"}
    flagged = [node for node in nodes(model) if node.op_type == "Dropout" and "".join(node.input[2:3]) in constants]
    return [node for node in flagged if not onnx.numpy_helper.to_array(constants[node.input[2]]).any()]


def describe_node(node: onnx.NodeProto) -> str:
    """The node's operator and its name or first output, for messages."""
    operator = node.op_type if node.domain in STANDARD_DOMAINS else f"{node.domain}.{node.op_type}"
    return f"{operator} {node.name or (node.output[0] if node.output else '?')!r}"


def strip(model: onnx.ModelProto) -> None:
    """Drop what no runtime reads: doc strings and exporter metadata, which hold source paths of its machine."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    described: list[Any] = [model, graph, *nodes(model), *values, *graph.initializer]
    for part in described:
        part.doc_string = ""
        del part.metadata_props[:]
    used = {node.domain for node in nodes(model)} | set(STANDARD_DOMAINS)
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
