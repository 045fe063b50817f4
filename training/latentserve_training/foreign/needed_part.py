"""The part of a model that some of its tensors need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import onnx
import onnx.inliner

_ALL_WEIGHTS_ARE_INPUTS = 3
"""The last version of the format in which every weight had to be an input, too."""


def needed_part(model: onnx.ModelProto, wanted: Sequence[str]) -> onnx.ModelProto:
    """A copy with the nodes, inputs and weights that the tensors need, and those of the outputs that are among them.

    Weights that may be fed are fixed, the model's own functions are written out, and what it says of training is gone.
    (onnx.utils.Extractor, of onnx 1.23, leaves out what the branches of an If read from outside.)
    """
    part = onnx.inliner.inline_local_functions(model) if model.functions else _copy(model)
    del part.training_info[:]
    if part.ir_version == _ALL_WEIGHTS_ARE_INPUTS:
        part.ir_version += 1
    graph = part.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    needed, left = set[str](), [*wanted]
    while left:
        if (name := left.pop()) not in needed:
            needed.add(name)
            left += _read(makers[name]) if name in makers else ()
    weights = {tensor.name for tensor in graph.initializer} | {one.values.name for one in graph.sparse_initializer}
    _keep(graph.node, lambda node: not needed.isdisjoint(node.output))
    _keep(graph.input, lambda value: value.name in needed and value.name not in weights)
    _keep(graph.output, lambda value: value.name in wanted)
    _keep(graph.value_info, lambda value: value.name in needed)
    _keep(graph.initializer, lambda tensor: tensor.name in needed)
    _keep(graph.sparse_initializer, lambda sparse: sparse.values.name in needed)
    return part


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """The names that the node reads, and all that are read in its branches, their own tensors among them."""
    yield from node.input
    for attribute in node.attribute:
        for branch in (attribute.g, *attribute.graphs):
            yield from (value.name for value in branch.output)
            for inner in branch.node:
                yield from _read(inner)


def _keep(items: Any, wanted: Callable[[Any], bool]) -> None:
    """Delete all items of a repeated field but those that are wanted."""
    for place in reversed([place for place, item in enumerate(items) if not wanted(item)]):
        del items[place]
