"""int8 graphs mean the same to a processor that adds pairs of 8-bit products in 16 bits, where larger sums saturate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from google.protobuf.json_format import Parse
from numpy.typing import NDArray
from saturating_decoder import publish_saturating

from latentserve.v1 import bundle_pb2

LARGEST = 255
"""The largest activation, in 8 bits without a sign."""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> onnx.GraphProto:
    """Of `SaturatingDecoder`, in int8; not to be changed."""
    bundle = publish_saturating(tmp_path_factory.mktemp("models"))
    manifest = Parse((bundle / "manifest.json").read_text(), bundle_pb2.Manifest())
    (entry,) = [graph for graph in manifest.graphs if graph.precision == bundle_pb2.PRECISION_INT8]
    assert entry.conversion.weight_bits == 7
    return onnx.load(bundle / entry.file.path).graph


def quantized_weights(graph: onnx.GraphProto) -> Iterator[NDArray[np.int8]]:
    """[outputs, products that are summed for one] of every layer in 8 bits."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        tensor = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if tensor is not None and tensor.data_type == onnx.TensorProto.INT8:
            (axis,) = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
            weights = np.moveaxis(onnx.numpy_helper.to_array(tensor), axis, 0)
            yield weights.reshape(len(weights), -1)


def pair_sums(activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """The sums [outputs, pairs] of two neighbouring products each, in 32 bits."""
    products = activations.astype(np.int32) * weights
    padded = np.pad(products, [(0, 0), (0, products.shape[1] % 2)])
    return padded.reshape(len(padded), -1, 2).sum(axis=2, dtype=np.int32)


def saturated(sums: NDArray[np.int32]) -> NDArray[np.int32]:
    """What is left of them in 16 bits, as by the instruction PMADDUBSW."""
    return np.clip(sums, np.iinfo(np.int16).min, np.iinfo(np.int16).max)


def test_no_sum_of_two_products_saturates(graph: onnx.GraphProto) -> None:
    layers = list(quantized_weights(graph))
    assert len(layers) == 4
    for weights in layers:
        assert np.abs(weights.astype(int)).max() == 64
        sums = pair_sums(np.full(weights.shape[1], LARGEST, np.uint8), weights)
        np.testing.assert_array_equal(saturated(sums), sums)


def test_with_weights_of_eight_bits_they_would(graph: onnx.GraphProto) -> None:
    (weights,) = [weights for weights in quantized_weights(graph) if weights.shape[1] == 64]
    eight_bits = (weights.astype(int) * 127 // 64).astype(np.int8)
    sums = pair_sums(np.full(weights.shape[1], LARGEST, np.uint8), eight_bits)
    assert (saturated(sums) != sums).all()
