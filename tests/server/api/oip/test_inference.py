"""The Open Inference Protocol gives the numbers of the other calls, to the bit, in whatever form they travel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from inference_requests import arrays_of, infer_request, stub_of
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tested_device import assert_agree, tolerance
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.oip import inference_pb2 as pb
from latentserve.v1 import generation_pb2
from latentserve_server.api.oip.parameters import RequestParameters, read_parameters

VAE = generation_pb2.ModelRef(name="vae")
FLOAT32 = generation_pb2.Output(format=generation_pb2.IMAGE_FORMAT_FLOAT32)
UINT8 = generation_pb2.Output(format=generation_pb2.IMAGE_FORMAT_UINT8)
LATENTS = np.random.default_rng(3).standard_normal((20, 3)).astype(np.float32)

Run = Callable[[Callable[[RunningServer], Awaitable[Any]]], Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a scenario against a server that lives as long as the tests of this file do, for many examples."""
    root = tmp_path_factory.mktemp("models")
    TinyModel().write(root / "vae" / "1")
    with asyncio.Runner() as runner:
        context = running_server(root, max_rows_per_request=32, max_batch_rows=8)
        server = runner.run(context.__aenter__())
        yield lambda scenario: runner.run(scenario(server))  # type: ignore[arg-type]
        runner.run(context.__aexit__(None, None, None))


async def infer(served: RunningServer, request: pb.ModelInferRequest) -> dict[str, NDArray[Any]]:
    return arrays_of(await stub_of(served).ModelInfer(request))


async def test_the_decoder_is_decode(served: RunningServer, vae: TinyModel) -> None:
    outputs = await infer(served, infer_request("vae", "latent", LATENTS))
    assert list(outputs) == ["image", "image_uint8", "logits"]
    for name, form in (("image", FLOAT32), ("image_uint8", UINT8)):
        request = generation_pb2.DecodeRequest(model=VAE, latents=from_ndarray(LATENTS), output=form)
        decoded = to_ndarray((await served.generation.Decode(request)).images.tensor)
        assert_agree(outputs[name], decoded)
    np.testing.assert_allclose(outputs["logits"], vae.logits(LATENTS), atol=tolerance(1e-5))


async def test_the_encoder_is_encode(served: RunningServer, vae: TinyModel) -> None:
    levels = vae.random_images(20)
    pixels = levels.astype(np.float32) / np.float32(255)
    request = generation_pb2.EncodeRequest(model=VAE, images=generation_pb2.Images(tensor=from_ndarray(levels)))
    encoded = await served.generation.Encode(request)
    for images in (levels, pixels):
        outputs = await infer(served, infer_request("vae.encoder", "image", images))
        assert list(outputs) == ["mean", "log_variance"]
        assert_agree(outputs["mean"], to_ndarray(encoded.mean))
        assert_agree(outputs["log_variance"], to_ndarray(encoded.log_variance))


async def test_both_in_a_row_are_reconstruct(served: RunningServer, vae: TinyModel) -> None:
    levels = vae.random_images(20)
    outputs = await infer(served, infer_request("vae.reconstruct", "image", levels))
    assert list(outputs) == ["image", "image_uint8", "reconstruction_error", "kl"]
    images = generation_pb2.Images(tensor=from_ndarray(levels))
    for name, form in (("image", FLOAT32), ("image_uint8", UINT8)):
        request = generation_pb2.ReconstructRequest(model=VAE, images=images, output=form)
        reconstructed = await served.generation.Reconstruct(request)
        assert_agree(outputs[name], to_ndarray(reconstructed.images.tensor))
        for cost in ("reconstruction_error", "kl"):
            expected = np.array(getattr(reconstructed, cost), np.float32)
            assert_agree(outputs[cost], expected)


@pytest.mark.parametrize(
    ("model", "array", "wanted"),
    [
        ("vae", LATENTS, ["logits"]),
        ("vae", LATENTS, ["image_uint8", "image"]),
        ("vae.encoder", TinyModel().random_images(3), ["log_variance"]),
        ("vae.reconstruct", TinyModel().random_images(3), ["kl"]),
        ("vae.reconstruct", TinyModel().random_images(3), ["reconstruction_error", "image"]),
    ],
)
async def test_what_was_asked_for_comes_in_the_order_of_asking(
    served: RunningServer, model: str, array: NDArray[Any], wanted: list[str]
) -> None:
    name = "latent" if model == "vae" else "image"
    every = await infer(served, infer_request(model, name, array))
    some = await infer(served, infer_request(model, name, array, *wanted))
    assert list(some) == wanted
    for output, values in some.items():
        assert_agree(values, every[output])


FINITE = st.floats(-100, 100, width=32)
ROWS = st.integers(1, 32)


@settings(max_examples=40)
@given(latents=arrays.arrays(np.float32, st.tuples(ROWS, st.just(3)), elements=FINITE), raw_output=st.booleans())
def test_latents_in_typed_fields_are_latents_in_bytes(run: Run, latents: NDArray[np.float32], raw_output: bool) -> None:
    raw = infer_request("vae", "latent", latents)
    typed = infer_request("vae", "latent", latents, raw=False)
    typed.parameters["binary_data_output"].bool_param = raw_output

    async def both(served: RunningServer) -> tuple[pb.ModelInferResponse, pb.ModelInferResponse]:
        return await stub_of(served).ModelInfer(raw), await stub_of(served).ModelInfer(typed)

    from_raw, from_typed = run(both)
    assert bool(from_typed.raw_output_contents) is raw_output
    for (name, expected), (other, values) in zip(
        arrays_of(from_raw).items(), arrays_of(from_typed).items(), strict=True
    ):
        assert name == other
        assert_agree(values, expected)


@settings(max_examples=20)
@given(images=arrays.arrays(np.uint8, st.tuples(ROWS, st.just(1), st.just(4), st.just(5))))
def test_images_in_any_form_are_the_same_images(run: Run, images: NDArray[np.uint8]) -> None:
    pixels = images.astype(np.float32) / np.float32(255)
    requests = [
        infer_request("vae.encoder", "image", array, raw=raw) for array in (images, pixels) for raw in (True, False)
    ]

    async def each(served: RunningServer) -> list[dict[str, NDArray[Any]]]:
        return [await infer(served, request) for request in requests]

    first, *others = run(each)
    for other in others:
        assert_agree(other["mean"], first["mean"])
        assert_agree(other["log_variance"], first["log_variance"])


async def test_a_response_says_which_request_it_answers_and_who_answered(served: RunningServer) -> None:
    for version in ("", "1"):
        request = infer_request("vae.encoder", "image", np.zeros((1, 1, 4, 5), np.float32), id="a7")
        request.model_version = version
        response = await stub_of(served).ModelInfer(request)
        assert (response.id, response.model_name, response.model_version) == ("a7", "vae.encoder", "1")


async def test_parameters_of_other_servers_are_ignored(served: RunningServer) -> None:
    request = infer_request("vae", "latent", LATENTS, "image")
    expected = await infer(served, request)
    request.parameters["sequence_id"].uint64_param = 3
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    request.parameters["mood"].string_param = "good"
    request.inputs[0].parameters["binary_data_size"].int64_param = 240
    request.outputs[0].parameters["binary_data"].bool_param = True
    assert_agree((await infer(served, request))["image"], expected["image"])


async def test_rows_of_both_services_share_batches(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("models")
    TinyModel(slow=True).write(root / "vae" / "1")
    async with running_server(root, max_batch_rows=8, metrics_listen="127.0.0.1:0") as served:
        long, short = np.array([[200_000, 0, 0]], np.float32), np.zeros((1, 3), np.float32)
        held = asyncio.ensure_future(
            served.generation.Decode(generation_pb2.DecodeRequest(model=VAE, latents=from_ndarray(long)))
        )
        async with asyncio.timeout(30):
            while not await served.metric("requests_in_flight", method="Decode"):
                pass
        requests = [infer_request("vae", "latent", short, "image") for _ in range(6)]
        calls: list[Awaitable[Any]] = [stub_of(served).ModelInfer(request) for request in requests]
        decode = generation_pb2.DecodeRequest(model=VAE, latents=from_ndarray(short))
        decoded = (await asyncio.gather(served.generation.Decode(decode), *calls, held))[0]
        assert decoded.served.timing.batch_rows > 1
        assert await served.metric("batch_rows_sum", graph="decoder") == 8
        assert await served.metric("batch_rows_count", graph="decoder") < 8


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, RequestParameters()),
        ({"timeout": {"int64_param": 0}, "priority": {"int64_param": 0}}, RequestParameters()),
        ({"timeout": {"int64_param": 1_500_000}}, RequestParameters(timeout=1.5)),
        ({"priority": {"uint64_param": 1}}, RequestParameters(bulk=False)),
        ({"priority": {"uint64_param": 2}}, RequestParameters(bulk=True)),
        ({"priority": {"int64_param": 9}}, RequestParameters(bulk=True)),
        ({"binary_data_output": {"bool_param": False}}, RequestParameters(raw=False)),
    ],
)
def test_parameters_say_how_a_request_is_treated(
    parameters: dict[str, dict[str, Any]], expected: RequestParameters
) -> None:
    request = pb.ModelInferRequest(parameters={name: pb.InferParameter(**value) for name, value in parameters.items()})
    assert read_parameters(request.parameters) == expected


async def test_a_request_waits_no_longer_than_its_timeout(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("models")
    TinyModel(slow=True).write(root / "vae" / "1")
    async with running_server(root) as served:
        busy = asyncio.ensure_future(infer(served, infer_request("vae", "latent", np.full((1, 3), 1e5, np.float32))))
        request = infer_request("vae", "latent", np.zeros((1, 3), np.float32))
        request.parameters["timeout"].int64_param = 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await infer(served, request)
        assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)
        request.parameters["timeout"].int64_param = 0
        assert (await infer(served, request))["image"].shape == (1, 1, 4, 5)
        await busy


async def test_requests_of_low_priority_let_others_go_first(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("models")
    TinyModel(slow=True).write(root / "vae" / "1")
    async with running_server(root, max_batch_rows=4) as served:
        finished: list[int] = []

        async def call(turns: float, priority: int) -> None:
            request = infer_request("vae", "latent", np.full((1, 3), turns, np.float32), "image")
            request.parameters["priority"].uint64_param = priority
            await infer(served, request)
            finished.append(priority)

        await asyncio.gather(call(1e5, 1), *(call(1e4, 2) for _ in range(40)), call(1e4, 1))
        position_of_the_last_interactive = max(place for place, priority in enumerate(finished) if priority == 1)
        assert position_of_the_last_interactive < 34  # of 0 to 41; it came last
