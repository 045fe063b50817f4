"""The batch axis of a foreign graph: fixed at a number of rows by its export, and made to vary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from latentserve_training.export.plan import BATCH
from latentserve_training.foreign.outside_weights import is_outside

_SHAPE_INPUT = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1, "Resize": 3}
"""Which input says how large the output is on every axis."""
_INTEGERS = (TensorProto.INT32, TensorProto.INT64)
_PREFIX = "batch/"
_ROWS = f"{_PREFIX}rows"


def fixed_rows(inputs: Sequence[onnx.ValueInfoProto]) -> int | None:
    """The rows at which the batch axis of the inputs is fixed; None if it varies, or is not the same for all.

    Inputs of rows have further axes or, as labels do, integers; a float [1] is a setting.
    """
    rows = {_rows(value) for value in inputs if _has_rows(value)}
    return (rows.pop() or None) if len(rows) == 1 else None


def free_batch(model: onnx.ModelProto, rows: int) -> onnx.ModelProto:
    """A copy that takes any number of rows: wherever a constant shape begins with `rows`, the inputs are asked for it.

    Whether it computes the same has to be tried: a shape may begin with that number by chance, or another node have it.
    """
    free = onnx.ModelProto()
    free.CopyFrom(model)
    graph = free.graph
    fed = [value for value in graph.input if _has_rows(value)]
    for value in (*fed, *(value for value in graph.output if _rows(value) == rows)):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del graph.value_info[:]
    _ask_for_rows(graph, fed[0].name, rows)
    return free


def _has_rows(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return len(tensor.shape.dim) > 1 or (len(tensor.shape.dim) == 1 and tensor.elem_type in _INTEGERS)


def _rows(value: onnx.ValueInfoProto) -> int:
    """The length of the first axis; 0 if it varies or there is none."""
    axes = value.type.tensor_type.shape.dim
    return axes[0].dim_value if axes else 0


def _ask_for_rows(graph: onnx.GraphProto, source: str, rows: int) -> None:
    """Let constant shapes that begin with `rows` begin with the rows of the input `source`."""
    constants = _integers(graph)
    depends = {value.name for value in graph.input}
    made: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        place = _SHAPE_INPUT.get(node.op_type, len(node.input))
        shape = constants.get("".join(node.input[place : place + 1]), np.array([]))
        of_weights = node.op_type == "Reshape" and node.input[0] not in depends
        if shape[:1].tolist() == [rows] and _first_axis_is_zero(node) and not of_weights:
            name = node.input[place]
            if node.op_type == "Reshape" and (shape[1:] > 0).all():
                node.input[place] = _hold(graph, f"{_PREFIX}{name}/any", np.array([-1, *shape[1:]]))
            else:
                node.input[place] = f"{_PREFIX}{name}"
                made[name] = _begin_with_rows(graph, name, shape[1:])
        if not depends.isdisjoint(node.input):
            depends.update(node.output)
    if made:
        first = _hold(graph, f"{_PREFIX}first", np.array([0]))
        asked = [
            helper.make_node("Shape", [source], [f"{_PREFIX}shape"]),
            helper.make_node("Gather", [f"{_PREFIX}shape", first], [_ROWS]),
        ]
        nodes = [*asked, *(node for some in made.values() for node in some), *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)


def _begin_with_rows(graph: onnx.GraphProto, name: str, rest: NDArray[np.int64]) -> list[onnx.NodeProto]:
    """What makes the shape of the rows of the batch and the rest."""
    parts = [_ROWS, _hold(graph, f"{_PREFIX}{name}/rest", rest)]
    return [helper.make_node("Concat", parts, [f"{_PREFIX}{name}"], axis=0)]


def _integers(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """The constant lists of int64 numbers, by name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer if not is_outside(tensor)}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    lists = {name: tensor for name, tensor in tensors.items() if len(tensor.dims) == 1}
    return {
        name: numpy_helper.to_array(tensor) for name, tensor in lists.items() if tensor.data_type == TensorProto.INT64
    }


def _first_axis_is_zero(node: onnx.NodeProto) -> bool:
    """Whether a shape given to the node begins with axis 0, which Resize may be told otherwise."""
    axes = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "axes"), [0])
    return axes[:1] == [0]


def _hold(graph: onnx.GraphProto, name: str, value: NDArray[np.int64]) -> str:
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(value, name))
    return name
