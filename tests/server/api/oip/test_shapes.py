"""The Open Inference Protocol shows latents in the model's shape and takes rows too; images may have any channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference_requests import arrays_of, infer_request, stub_of
from numpy.typing import NDArray
from refusal import invalid
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.oip import inference_pb2 as pb

SHAPE = (3, 2, 2)
MODEL = TinyModel(latent_dim=12, latent_shape=SHAPE, channels=13)
ROWS = np.random.default_rng(5).standard_normal((5, 12)).astype(np.float32)
LATENTS = ROWS.reshape(5, *SHAPE)
IMAGES = MODEL.random_images(5)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    MODEL.write(root / "shaped" / "1")
    return root


@pytest.fixture
async def served(shelf: Path) -> AsyncIterator[RunningServer]:
    async with running_server(shelf, max_rows_per_request=32, max_batch_rows=8) as server:
        yield server


async def infer(served: RunningServer, request: pb.ModelInferRequest) -> dict[str, NDArray[Any]]:
    return arrays_of(await stub_of(served).ModelInfer(request))


async def test_metadata_and_configuration_say_the_shape(served: RunningServer) -> None:
    metadata, configured = {}, {}
    for name in ("shaped", "shaped.encoder"):
        told = await stub_of(served).ModelMetadata(pb.ModelMetadataRequest(name=name))
        metadata |= {tensor.name: list(tensor.shape) for tensor in (*told.inputs, *told.outputs)}
        config = (await stub_of(served).ModelConfig(pb.ModelConfigRequest(name=name))).config
        configured |= {tensor.name: [-1, *tensor.dims] for tensor in (*config.input, *config.output)}
        (tensor,) = config.input
        assert tensor.format == (pb.ModelInput.FORMAT_NCHW if tensor.name == "image" else pb.ModelInput.FORMAT_NONE)
    assert metadata == configured
    latent, image = [-1, *SHAPE], [-1, 13, 4, 5]
    assert metadata == {
        **dict.fromkeys(("latent", "mean", "log_variance"), latent),
        **dict.fromkeys(("image", "image_uint8", "logits"), image),
    }


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("latents", [ROWS, LATENTS], ids=["rows", "shaped"])
async def test_latents_go_in_in_either_form(served: RunningServer, latents: NDArray[np.float32], raw: bool) -> None:
    outputs = await infer(served, infer_request("shaped", "latent", latents, "logits", "image", raw=raw))
    np.testing.assert_allclose(outputs["logits"], MODEL.logits(ROWS), atol=1e-4)
    np.testing.assert_allclose(outputs["image"], MODEL.images(ROWS), atol=1e-6)


@pytest.mark.parametrize("raw", [True, False])
async def test_posteriors_come_in_the_shape(served: RunningServer, raw: bool) -> None:
    request = infer_request("shaped.encoder", "image", IMAGES)
    request.parameters["binary_data_output"].bool_param = raw
    outputs = await infer(served, request)
    for name, expected in zip(("mean", "log_variance"), MODEL.posterior(IMAGES / 255), strict=True):
        assert outputs[name].shape == (5, *SHAPE)
        np.testing.assert_allclose(outputs[name].reshape(5, 12), expected, atol=1e-4)


async def test_streams_take_and_give_the_shape_too(served: RunningServer) -> None:
    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        yield infer_request("shaped.encoder", "image", IMAGES, "mean")
        yield infer_request("shaped", "latent", LATENTS, "image")
        yield infer_request("shaped", "latent", ROWS, "image")
        yield infer_request("shaped.reconstruct", "image", IMAGES, "kl", "image_uint8")

    answers = [answer async for answer in stub_of(served).ModelStreamInfer(requests())]
    assert [answer.error_message for answer in answers] == [""] * 4
    encoded, decoded, again, reconstructed = [arrays_of(answer.infer_response) for answer in answers]
    assert encoded["mean"].shape == (5, *SHAPE)
    np.testing.assert_array_equal(decoded["image"], again["image"])
    assert (reconstructed["kl"].shape, reconstructed["image_uint8"].shape) == ((5,), (5, 13, 4, 5))


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ([5, 11], "shape [5, 11] where [n, 3, 2, 2] or [n, 12] is wanted"),
        ([5, 2, 3, 2], "shape [5, 2, 3, 2] where [n, 3, 2, 2] or [n, 12] is wanted"),
        ([12], "shape [12] where [n, 3, 2, 2] or [n, 12] is wanted"),
        ([], "shape [] where [n, 3, 2, 2] or [n, 12] is wanted"),
        ([1] * 9, "shape [1, 1, 1, 1, 1, 1, 1, 1, 1] where [n, 3, 2, 2] or [n, 12] is wanted"),
        ([1] * 10, "shape of 10 axes where [n, 3, 2, 2] or [n, 12] is wanted"),
        ([0, 12], "0 rows; 1 to 32 are allowed"),
    ],
)
async def test_latents_of_another_shape_are_told_both(served: RunningServer, shape: list[int], problem: str) -> None:
    request = infer_request("shaped", "latent", ROWS)
    request.inputs[0].shape[:] = shape
    assert await invalid(stub_of(served).ModelInfer(request)) == f"inputs.latent: {problem}"
