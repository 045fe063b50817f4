"""Conversion of a model to a newer operator set without a change of meaning."""

from __future__ import annotations

from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from latentserve_training.export.onnx_model import nodes, opset

_COORDINATES_SINCE = 11
"""The operator set that gave Resize a coordinate mode, with another default than before."""


def upgrade_opset(model: onnx.ModelProto, target: int) -> onnx.ModelProto:
    """A copy of the model in the operator set `target`; the converter's errors pass through.

    Before operator set 11 a sample of Upsample and Resize lies at i / scale, and "nearest" takes the pixel below where
    a side grows, the pixel above where it shrinks (onnxruntime, upsamplebase.h; ONNX's own test of a Resize that
    shrinks). onnx's converter (1.23) leaves that out, so that the defaults of later ones draw another picture.
    """
    changed = onnx.version_converter.convert_version(model, target)
    if opset(model) < _COORDINATES_SINCE:
        constants = _constants(changed)
        for node in nodes(changed):
            if node.op_type == "Resize":
                _set(node, "coordinate_transformation_mode", "asymmetric")
                _set(node, "nearest_mode", "ceil" if _shrinks(node, constants) else "floor")
    return changed


def _constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in nodes(model):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}


def _shrinks(node: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> bool:
    """Whether some side shrinks and none grows, as far as the file says; no mode is right for both."""
    scales = constants.get(node.input[2])
    return scales is not None and bool((scales <= 1).all() and (scales < 1).any())


def _set(node: onnx.NodeProto, name: str, value: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
