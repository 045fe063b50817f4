"""Which of a bundle's graphs run: the precision that is asked for, or float32 where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from lower_precision import add_int8
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tested_device import tolerance
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import bundle_pb2, models_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.errors import StartupError

MODEL = TinyModel()
VAE = pb.ModelRef(name="vae")
LATENTS = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
STEP = np.float32(1 / 64)


def rounded(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.round(weights / STEP) * STEP


def add_int8_decoder(bundle: Path, spoil: float = 0.0, conversion: bundle_pb2.Conversion | None = None) -> None:
    """A second decoder, its weights in steps of 1/64 and `spoil` off."""

    def edit(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == "decoder_weight":
                value = rounded(onnx.numpy_helper.to_array(tensor)) + np.float32(spoil)
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))

    add_int8(bundle, "decoder", edit, conversion)


def narrow_logits(model: onnx.ModelProto) -> None:
    """Give one column of the logits, which only a run shows: how many there are is computed."""
    make = onnx.helper.make_node
    (last,) = [node for node in model.graph.node if "logits" in node.output]
    last.output[0] = "wide"
    for node in model.graph.node:
        node.input[:] = ["wide" if name == "logits" else name for name in node.input]
    model.graph.node.extend(
        [
            make("ReduceMax", ["image"], ["most"], keepdims=0),
            make("Ceil", ["most"], ["one"]),
            make("Cast", ["one"], ["columns"], to=onnx.TensorProto.INT64),
            make("Reshape", ["columns", "vector"], ["end"]),
            make("Slice", ["wide", "start", "end", "axis"], ["logits"]),
        ]
    )
    for name, value in (("vector", 1), ("start", 0), ("axis", 3)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), name))


async def decoded(served: RunningServer) -> NDArray[np.float32]:
    reply = await served.generation.Decode(pb.DecodeRequest(model=VAE, latents=from_ndarray(LATENTS)))
    return np.asarray(to_ndarray(reply.images.tensor), np.float32)


async def described(served: RunningServer) -> models_pb2.Model:
    reply = await served.models.GetModel(models_pb2.GetModelRequest(model=VAE))
    return models_pb2.Model.FromString(reply.model.SerializeToString())


async def test_the_precision_asked_for_runs_where_the_bundle_has_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_int8_decoder(MODEL.write(tmp_path / "vae" / "1"))
    caplog.set_level("INFO", logger="latentserve_server.bundle.opening")
    async with running_server(tmp_path, precision="int8") as served:
        images = await decoded(served)
        assert (await described(served)).precision == bundle_pb2.PRECISION_INT8
    rows = LATENTS @ rounded(MODEL.weights["decoder_weight"]) + MODEL.weights["decoder_bias"]
    np.testing.assert_allclose(images.reshape(4, -1), 1 / (1 + np.exp(-rows)), rtol=0, atol=tolerance(1e-6))
    assert np.abs(images - MODEL.images(LATENTS)).max() > 1e-4
    assert [message for message in caplog.messages if "float32 runs" in message] == [
        f"{tmp_path / 'vae' / '1'}: there is no encoder in int8; float32 runs"
    ]


@pytest.mark.parametrize("precision", ["float32", "float16"])
async def test_float32_runs_by_default_and_where_the_precision_is_missing(tmp_path: Path, precision: str) -> None:
    add_int8_decoder(MODEL.write(tmp_path / "vae" / "1"))
    async with running_server(tmp_path, precision=precision) as served:
        np.testing.assert_allclose(await decoded(served), MODEL.images(LATENTS), rtol=0, atol=tolerance(1e-6))
        assert (await described(served)).precision == bundle_pb2.PRECISION_FLOAT32


async def test_an_output_of_another_shape_than_the_golden_rows_is_told(tmp_path: Path) -> None:
    add_int8(MODEL.write(tmp_path / "vae" / "1"), "decoder", narrow_logits)
    message = r"decoder: output 'logits' is \[3, 1, 4, 1\] where the golden rows are \[3, 1, 4, 5\]"
    with pytest.raises(StartupError, match=message):
        async with running_server(tmp_path, precision="int8"):
            pass


async def test_an_encoder_of_which_every_mean_is_zero_is_served_in_lower_precision(tmp_path: Path) -> None:
    add_int8(TinyModel(spread=0).write(tmp_path / "vae" / "1"), "encoder", lambda model: None)
    async with running_server(tmp_path, precision="int8") as served:
        images = pb.Images(tensor=from_ndarray(MODEL.random_images(2)))
        encoded = await served.generation.Encode(pb.EncodeRequest(model=VAE, images=images))
    np.testing.assert_array_equal(to_ndarray(encoded.mean), np.zeros((2, 3)))
