"""The table in which a graph looks up whole numbers, and how many entries it has."""

from __future__ import annotations

import onnx

_MOVES = frozenset({"Reshape", "Identity", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast"})


def entries(graph: onnx.GraphProto, name: str) -> int | None:
    """The rows of the one table in which the input's numbers are looked up; None where there is none, or several."""
    sizes = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    moved, found = {name}, set[int]()
    for node in graph.node:
        if node.op_type in _MOVES and moved.intersection(node.input[:1]):
            moved.update(node.output)
        elif (
            node.op_type == "Gather"
            and moved.intersection(node.input[1:])
            and node.input[0] in sizes
            and _of_rows(node)
        ):
            found.add(sizes[node.input[0]])
    return found.pop() if len(found) == 1 else None


def _of_rows(node: onnx.NodeProto) -> bool:
    return not any(attribute.name == "axis" and attribute.i != 0 for attribute in node.attribute)
