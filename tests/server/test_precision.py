"""Which of a bundle's graphs run: the precision that is asked for, or float32 where there is none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.json_format import MessageToJson, Parse
from numpy.typing import NDArray
from running_server import RunningServer, running_server
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


def add_int8_decoder(bundle: Path, spoil: float = 0.0) -> None:
    """A second decoder, its weights in steps of 1/64 and `spoil` off; the encoder stays alone."""
    model = onnx.load(bundle / "decoder.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "decoder_weight":
            value = rounded(onnx.numpy_helper.to_array(tensor)) + np.float32(spoil)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    content = model.SerializeToString()
    (bundle / "decoder.int8.onnx").write_bytes(content)
    manifest = Parse((bundle / "manifest.json").read_text(), bundle_pb2.Manifest())
    (exact,) = [graph for graph in manifest.graphs if graph.role == bundle_pb2.GRAPH_ROLE_DECODER]
    (entry := manifest.graphs.add()).CopyFrom(exact)
    digest = hashlib.sha256(content).hexdigest()
    entry.file.CopyFrom(bundle_pb2.File(path="decoder.int8.onnx", sha256=digest, size_bytes=len(content)))
    entry.precision = bundle_pb2.PRECISION_INT8
    (bundle / "manifest.json").write_text(MessageToJson(manifest, preserving_proto_field_name=True))


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
    caplog.set_level("INFO", logger="latentserve_server.loading")
    async with running_server(tmp_path, precision="int8") as served:
        images = await decoded(served)
        assert (await described(served)).precision == bundle_pb2.PRECISION_INT8
    rows = LATENTS @ rounded(MODEL.weights["decoder_weight"]) + MODEL.weights["decoder_bias"]
    np.testing.assert_allclose(images.reshape(4, -1), 1 / (1 + np.exp(-rows)), rtol=0, atol=1e-6)
    assert np.abs(images - MODEL.images(LATENTS)).max() > 1e-4
    assert [message for message in caplog.messages if "float32 runs" in message] == [
        f"{tmp_path / 'vae' / '1'}: there is no encoder in int8; float32 runs"
    ]


@pytest.mark.parametrize("precision", ["float32", "float16"])
async def test_float32_runs_by_default_and_where_the_precision_is_missing(tmp_path: Path, precision: str) -> None:
    add_int8_decoder(MODEL.write(tmp_path / "vae" / "1"))
    async with running_server(tmp_path, precision=precision) as served:
        np.testing.assert_allclose(await decoded(served), MODEL.images(LATENTS), rtol=0, atol=1e-6)
        assert (await described(served)).precision == bundle_pb2.PRECISION_FLOAT32


async def test_a_lower_precision_that_is_far_from_the_golden_rows_is_not_served(tmp_path: Path) -> None:
    add_int8_decoder(MODEL.write(tmp_path / "vae" / "1"), spoil=0.5)
    with pytest.raises(
        StartupError, match=r"decoder: output 'image' is 0\.1.* of its peak from the golden rows; 0.02 is"
    ):
        async with running_server(tmp_path, precision="int8"):
            pass
