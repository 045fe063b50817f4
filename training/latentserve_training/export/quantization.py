"""Conversion of an ONNX graph to float16 or int8 by onnxruntime's converters."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from latentserve_training.export.plan import Arrays

_BATCH_ROWS = 64
_QUANTIZED = ["Conv", "Gemm", "MatMul"]
"""The operators that 8 bits make faster. A ConvTranspose in 8 bits was measured to be slower than in float32."""

WEIGHT_BITS = 7
"""Bits of a quantised weight: -64 to 64. An x86-64 processor without VNNI adds the products with two neighbouring
activations, each from 0 to 255, in 16 bits. 2 * 255 * 64 fits; 2 * 255 * 127 saturates, and gives another picture."""


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Rows of a graph's inputs, in batches."""

    def __init__(self, inputs: Arrays) -> None:
        count = len(next(iter(inputs.values())))
        starts = range(0, count, _BATCH_ROWS)
        self._batches = iter(
            [{name: rows[start : start + _BATCH_ROWS] for name, rows in inputs.items()} for start in starts]
        )

    def get_next(self) -> Arrays | None:
        """The next batch; None after the last."""
        return next(self._batches, None)


def int8_forms(model: onnx.ModelProto) -> dict[str, list[str]]:
    """The int8 variants of a graph, most layers first: the name of each, and the layers it keeps in float32.

    The last layer sets the pixels directly, so that its rounding is seen most. After many convolutions, rounding in
    the first layer also shows. The dense layers, most of a small decoder's bytes, come before the convolutions.
    """
    layers = [node for node in model.graph.node if node.op_type in _QUANTIZED]
    forms = {"all layers": [], "all but the last layer": [node.name for node in layers[-1:]]}
    convolutions = [node.name for node in layers if node.op_type == "Conv"]
    if 0 < len(convolutions) < len(layers):
        forms["dense layers alone"] = convolutions
    return forms


def int8(model: onnx.ModelProto, inputs: Arrays, kept: list[str]) -> onnx.ModelProto:
    """The graph with convolutions and dense layers in 8 bits, between standard QuantizeLinear and DequantizeLinear.

    Weights are int8 of `WEIGHT_BITS` with a scale a channel, activations uint8 with the range that they take over
    `inputs`. The layers named in `kept` stay float32.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), source)
        quantize_static(
            source,
            target,
            _Rows(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
        )
        return onnx.load(target)


def float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in float16, except for what must stay float32, such as Resize's scales."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _unshare_weights(copy.graph)
    with _quiet():
        converted = convert_float_to_float16(copy, keep_io_types=True, node_block_list=_bytes_of_images(copy.graph))
    # The converter names two casts alike, and puts casts of inputs behind what reads them.
    for number, node in enumerate(converted.graph.node):
        node.name = f"{node.name}/{number}"
    del converted.graph.value_info[:]  # of which it leaves some as they were
    _sort(converted.graph)
    result: onnx.ModelProto = converted
    return result


def _bytes_of_images(graph: onnx.GraphProto) -> list[str]:
    """The nodes from the image to its bytes: 255 times a float16 would round to another level."""
    makers = {output: node for node in graph.node for output in node.output}
    outputs = {value.name for value in graph.output}
    nodes: list[str] = []
    name = "image_uint8"
    while (node := makers.get(name)) is not None and (name not in outputs or not nodes):
        nodes.append(node.name)
        name = node.input[0]
    return nodes


def _unshare_weights(graph: onnx.GraphProto) -> None:
    """Give every node its own constants: casts are named after the constant, so a shared one would clash."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    seen: set[str] = set()
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in constants and name in seen:
                (twin := graph.initializer.add()).CopyFrom(constants[name])
                twin.name = node.input[place] = f"{name}/{node.output[0]}"
            seen.add(name)


def _sort(graph: onnx.GraphProto) -> None:
    """Sort the nodes topologically, otherwise in their order."""
    made = {output for node in graph.node for output in node.output}
    waiting, done, ordered = list(graph.node), set[str](), list[onnx.NodeProto]()
    while waiting:
        ready = [node for node in waiting if all(name in done or name not in made for name in node.input)]
        assert ready, "a graph has no cycles"
        ordered += ready
        done |= {output for node in ready for output in node.output}
        waiting = [node for node in waiting if node not in ready]
    del graph.node[:]
    graph.node.extend(ordered)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the converters' advice."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
