"""Nodes of operator set 18 in the words of an older one, for what is put around a graph that stays in its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from latentserve_training.export.onnx_model import opset

Tensors = dict[str, onnx.TensorProto]

_WHOLE_FROM = np.float32(1.5 * 2**23)
"""Float32 numbers around it are whole, so that a sum there is rounded, half to even as Round does it."""


def respell(model: onnx.ModelProto) -> None:
    """Put what the model's own operator set does not have, and a newer one does, in that set's words; in place.

    These are, for a set as old as 7: Clip with bounds that are inputs, Round of values within 2^22, OneHot of int64
    labels [batch] as float32 [batch, labels], Shape of some axes, and Split into equal parts.
    """
    own, graph = opset(model), model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        since, spell = _SPELLED.get(node.op_type, (0, None))
        nodes += [node] if spell is None or own >= since else spell(node, constants)
    del graph.node[:]
    graph.node.extend(nodes)
    known = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for name, tensor in constants.items() if name not in known)


def _clip(node: onnx.NodeProto, constants: Tensors) -> list[onnx.NodeProto]:
    if len(node.input) == 1:
        return [node]
    low, high = (numpy_helper.to_array(constants[name]).item() for name in node.input[1:])
    return [helper.make_node("Clip", node.input[:1], node.output, min=low, max=high)]


def _round(node: onnx.NodeProto, constants: Tensors) -> list[onnx.NodeProto]:
    (result,) = node.output
    whole, raised = _hold(constants, f"{result}/whole", _WHOLE_FROM), f"{result}/raised"
    return [helper.make_node("Add", [*node.input, whole], [raised]), helper.make_node("Sub", [raised, whole], [result])]


def _one_hot(node: onnx.NodeProto, constants: Tensors) -> list[onnx.NodeProto]:
    (label, count, _), (result,) = node.input, node.output
    column = _hold(constants, f"{result}/column", np.array([-1, 1]))
    labels = _hold(constants, f"{result}/labels", np.arange(numpy_helper.to_array(constants[count]).item()))
    return [
        helper.make_node("Reshape", [label, column], [f"{result}/rows"]),
        helper.make_node("Equal", [f"{result}/rows", labels], [f"{result}/equal"]),
        helper.make_node("Cast", [f"{result}/equal"], [result], to=TensorProto.FLOAT),
    ]


def _shape(node: onnx.NodeProto, constants: Tensors) -> list[onnx.NodeProto]:
    asked = {attribute.name: attribute.i for attribute in node.attribute}
    if not asked:
        return [node]
    (result,) = node.output
    axes = _hold(constants, f"{result}/axes", np.arange(asked["start"], asked["end"]))
    return [
        helper.make_node("Shape", node.input, [f"{result}/all"]),
        helper.make_node("Gather", [f"{result}/all", axes], [result]),
    ]


def _split(node: onnx.NodeProto, _: Tensors) -> list[onnx.NodeProto]:
    kept = [attribute for attribute in node.attribute if attribute.name != "num_outputs"]
    del node.attribute[:]
    node.attribute.extend(kept)
    return [node]


def _hold(constants: Tensors, name: str, value: np.generic | np.ndarray) -> str:
    constants[name] = numpy_helper.from_array(np.asarray(value), name)
    return name


Spelling = Callable[[onnx.NodeProto, Tensors], list[onnx.NodeProto]]
_SPELLED: dict[str, tuple[int, Spelling]] = {
    "Clip": (11, _clip),
    "OneHot": (9, _one_hot),
    "Round": (11, _round),
    "Shape": (15, _shape),
    "Split": (18, _split),
}
"""The operator sets that first have the operators as they are written here."""
