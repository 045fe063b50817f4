"""Codes of a model that gives its latents a shape: [n, *shape] in replies, and that or rows in requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from inference_requests import arrays_of, infer_request, stub_of
from numpy.typing import NDArray
from refusal import invalid
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.oip import inference_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.latent.noise import NoiseSource, Stream

SHAPE = (2, 3)
MODEL = TinyModel(kind="vq", codes=6, latent_dim=6, latent_shape=SHAPE, noise_dim=2, channels=2)
REF = pb.ModelRef(name="vq")
PICTURES = MODEL.random_images(5)
ROWS = MODEL.nearest_codes(MODEL.posterior(PICTURES / 255)[0])
EITHER = pytest.mark.parametrize("codes", [ROWS, ROWS.reshape(5, *SHAPE)], ids=["rows", "shaped"])


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    MODEL.write(root / "vq" / "1")
    return root


@pytest.fixture
async def served(shelf: Path) -> AsyncIterator[RunningServer]:
    async with running_server(shelf, max_rows_per_request=32, max_batch_rows=4) as server:
        yield server


async def test_codes_come_in_the_shape(served: RunningServer) -> None:
    images = pb.Images(tensor=from_ndarray(PICTURES))
    reply = await served.generation.Encode(pb.EncodeRequest(model=REF, images=images))
    np.testing.assert_array_equal(to_ndarray(reply.codes), ROWS.reshape(5, *SHAPE), strict=True)


@EITHER
async def test_codes_go_in_in_either_form(served: RunningServer, codes: NDArray[np.int64]) -> None:
    reply = await served.generation.Decode(pb.DecodeRequest(model=REF, latents=from_ndarray(codes)))
    np.testing.assert_allclose(to_ndarray(reply.images.tensor), MODEL.images(MODEL.embedded(ROWS)), atol=1e-5)


@pytest.mark.parametrize(
    ("codes", "problem"),
    [
        (ROWS.reshape(5, 3, 2), "int64 [5, 3, 2] where int64 [n, 2, 3] or [n, 6] is wanted"),
        (np.array([[[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 6, 0]]]), "row 1 holds code 6; 0 to 5 are allowed"),
    ],
)
async def test_other_codes_are_refused(served: RunningServer, codes: NDArray[np.int64], problem: str) -> None:
    request = pb.DecodeRequest(model=REF, latents=from_ndarray(codes))
    assert await invalid(served.generation.Decode(request)) == f"latents: {problem}"


async def test_a_prior_graph_gives_the_decoder_its_rows(served: RunningServer) -> None:
    reply = await served.generation.Sample(pb.SampleRequest(model=REF, seed=7, count=9))
    codes = MODEL.from_noise(NoiseSource().draw(7, 0, 9, MODEL.noise_dim, Stream.PRIOR))
    np.testing.assert_allclose(to_ndarray(reply.images.tensor), MODEL.images(MODEL.embedded(codes)), atol=1e-5)


async def test_metadata_of_the_open_inference_protocol_say_the_shape(served: RunningServer) -> None:
    decoder, encoder = [
        await stub_of(served).ModelMetadata(inference_pb2.ModelMetadataRequest(name=name))
        for name in ("vq", "vq.encoder")
    ]
    for (tensor,) in (decoder.inputs, encoder.outputs):
        assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("codes", "INT64", [-1, *SHAPE])


@EITHER
@pytest.mark.parametrize("raw", [True, False])
async def test_the_open_inference_protocol_takes_either_form(
    served: RunningServer, codes: NDArray[np.int64], raw: bool
) -> None:
    encoded = arrays_of(await stub_of(served).ModelInfer(infer_request("vq.encoder", "image", PICTURES, raw=raw)))
    np.testing.assert_array_equal(encoded["codes"], ROWS.reshape(5, *SHAPE), strict=True)
    decoded = arrays_of(await stub_of(served).ModelInfer(infer_request("vq", "codes", codes, "image", raw=raw)))
    np.testing.assert_allclose(decoded["image"], MODEL.images(MODEL.embedded(ROWS)), atol=1e-5)


async def test_the_open_inference_protocol_tells_both_forms(served: RunningServer) -> None:
    call = stub_of(served).ModelInfer(infer_request("vq", "codes", ROWS.reshape(5, 3, 2)))
    assert await invalid(call) == "inputs.codes: shape [5, 3, 2] where [n, 2, 3] or [n, 6] is wanted"
