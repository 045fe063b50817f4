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
