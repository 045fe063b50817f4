"""Decoders that take a psi: which one a row has, in every call, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.oip import inference_pb2, inference_pb2_grpc
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.latent.noise import NoiseSource

MODEL = TinyModel(psi=(0.75, -0.5, 1.0), labels=2)
CODES = TinyModel(kind="vq", codes=6, latent_dim=4, noise_dim=2, noises=1, psi=(0.5, 0.0, 1.0))
REF = pb.ModelRef(name="styled")
FLOAT32 = pb.Output(format=pb.IMAGE_FORMAT_FLOAT32)
LABELS = np.ones(12, np.int64)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server of the model, whose batches hold 8 rows."""
    MODEL.write(tmp_path / "styled" / "1")
    async with running_server(tmp_path, max_batch_rows=8) as server:
        yield server


def drawn(seed: int, first: int, rows: int, *, dim: int = 3, stream: int = 0) -> NDArray[np.float32]:
    return NoiseSource().draw(seed, first, rows, dim, stream)


def images(latents: NDArray[np.float32], psi: Any = 0.75) -> NDArray[np.float64]:
    scaled = latents * np.reshape(np.asarray(psi, np.float32), (-1, 1))
    return MODEL.images(scaled, LABELS[: len(latents)])


async def sampled(served: RunningServer, count: int, first: int = 0, **shaping: float) -> NDArray[np.float32]:
    request = pb.SampleRequest(model=REF, seed=7, first_index=first, count=count, output=FLOAT32, labels=[1])
    if shaping:
        request.shaping.CopyFrom(pb.Shaping(**shaping))
    return to_ndarray((await served.generation.Sample(request)).images.tensor)


@pytest.mark.parametrize("padded", ["always", "never"])
async def test_rows_of_one_batch_have_the_psi_that_each_call_asked_for(tmp_path: Path, padded: str) -> None:
    MODEL.write(tmp_path / "styled" / "1")
    asked = [0.75, 1.0, -0.5, 0.0, 0.25, 1.0]
    async with running_server(tmp_path, max_batch_rows=8, pad_batches=padded) as served:
        found = await asyncio.gather(*(sampled(served, 2 + place, place, psi=psi) for place, psi in enumerate(asked)))
        alone = await sampled(served, 3, 1, psi=1.0)
    for place, (psi, rows) in enumerate(zip(asked, found, strict=True)):
        np.testing.assert_allclose(rows, images(drawn(7, place, 2 + place), psi), atol=1e-5)
    np.testing.assert_array_equal(found[1], alone)


async def test_a_call_that_is_cut_has_one_psi_and_the_default_where_it_asks_for_none(served: RunningServer) -> None:
    np.testing.assert_allclose(await sampled(served, 12, psi=0.25), images(drawn(7, 0, 12), 0.25), atol=1e-5)
    np.testing.assert_allclose(await sampled(served, 12), images(drawn(7, 0, 12)), atol=1e-5)
    np.testing.assert_array_equal(await sampled(served, 12), await sampled(served, 12, psi=0.75))


async def test_temperature_goes_with_psi(served: RunningServer) -> None:
    found = await sampled(served, 5, temperature=0.5, psi=0.5)
    np.testing.assert_allclose(found, images(drawn(7, 0, 5) * np.float32(0.5), 0.5), atol=1e-5)


async def test_every_chunk_of_a_stream_has_the_psi(served: RunningServer) -> None:
    shaping = pb.Shaping(psi=0.25)
    request = pb.StreamSamplesRequest(model=REF, count=12, seed=7, chunk_rows=5, shaping=shaping, labels=[1])
    chunks = [to_ndarray(chunk.images.tensor) async for chunk in served.generation.StreamSamples(request)]
    np.testing.assert_array_equal(np.concatenate(chunks), await sampled(served, 12, psi=0.25))


async def test_latents_that_are_given_have_the_default(served: RunningServer) -> None:
    latents, x = drawn(9, 0, 11), pb.Images(tensor=from_ndarray(MODEL.random_images(9)))
    request = pb.DecodeRequest(model=REF, latents=from_ndarray(latents), output=FLOAT32, labels=[1])
    decoded = to_ndarray((await served.generation.Decode(request)).images.tensor)
    np.testing.assert_allclose(decoded, images(latents), atol=1e-5)
    mean, _ = MODEL.posterior(MODEL.random_images(9) / 255, LABELS[:9])
    again = pb.ReconstructRequest(model=REF, images=x, output=FLOAT32, labels=[1])
    reply = await served.generation.Reconstruct(again)
    np.testing.assert_allclose(to_ndarray(reply.images.tensor), images(mean.astype(np.float32)), atol=1e-5)
    scores = await served.generation.Score(pb.ScoreRequest(model=REF, images=x, labels=[1], draws=2))
    assert len(scores.importance_bound) == 9


@pytest.mark.parametrize("psi", [None, 1.0])
async def test_codes_of_a_prior_graph_are_decoded_with_noise_and_psi(tmp_path: Path, psi: float | None) -> None:
    CODES.write(tmp_path / "styled" / "1")
    request = pb.SampleRequest(model=REF, seed=7, first_index=2, count=9, output=FLOAT32)
    if psi is not None:
        request.shaping.psi = psi
    async with running_server(tmp_path, max_batch_rows=4) as served:
        found = to_ndarray((await served.generation.Sample(request)).images.tensor)
    latents = CODES.embedded(CODES.from_noise(drawn(7, 2, 9, dim=2)))
    noise = drawn(7, 2, 9, dim=CODES.pixels, stream=3).reshape(-1, *CODES.shape)
    logits = CODES.logits(latents * np.float32(0.5 if psi is None else psi)) + noise
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5)


@pytest.mark.parametrize("psi", [-0.5000001, 1.0000001, float("nan"), float("inf")])
async def test_a_psi_out_of_range_is_refused(served: RunningServer, psi: float) -> None:
    shaping = pb.Shaping(psi=psi)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.generation.Sample(pb.SampleRequest(model=REF, count=1, shaping=shaping))
    stream = served.generation.StreamSamples(pb.StreamSamplesRequest(model=REF, count=1, shaping=shaping))
    with pytest.raises(grpc.aio.AioRpcError) as in_stream:
        await anext(aiter(stream))
    for error in (caught.value, in_stream.value):
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == f"shaping.psi: {np.float32(psi)!s}; -0.5 to 1.0 are allowed"


def inference(psi: NDArray[Any] | None, latents: NDArray[np.float32]) -> inference_pb2.ModelInferRequest:
    """A request of the Open Inference Protocol, with a psi or without."""
    tensors = {"latent": latents, "label": LABELS[: len(latents)], **({} if psi is None else {"psi": psi})}
    types = {"latent": "FP32", "label": "INT64", "psi": "FP32"}
    infer_input = inference_pb2.ModelInferRequest.InferInputTensor
    return inference_pb2.ModelInferRequest(
        model_name="styled",
        inputs=[infer_input(name=name, datatype=types[name], shape=rows.shape) for name, rows in tensors.items()],
        raw_input_contents=[rows.tobytes() for rows in tensors.values()],
        outputs=[inference_pb2.ModelInferRequest.InferRequestedOutputTensor(name="image")],
    )


async def test_the_open_inference_protocol_takes_one_a_row_or_none(served: RunningServer) -> None:
    oip, latents = inference_pb2_grpc.GRPCInferenceServiceStub(served.channel), drawn(9, 0, 11)
    for psi in (None, np.linspace(-0.5, 1, 11, dtype=np.float32)):
        reply = await oip.ModelInfer(inference(psi, latents))
        found = np.frombuffer(reply.raw_output_contents[0], np.float32).reshape(-1, *MODEL.shape)
        np.testing.assert_allclose(found, images(latents, 0.75 if psi is None else psi), atol=1e-5)
    config = (await oip.ModelConfig(inference_pb2.ModelConfigRequest(name="styled"))).config
    assert [(each.name, each.optional) for each in config.input] == [("latent", False), ("label", False), ("psi", True)]
    told = await oip.ModelMetadata(inference_pb2.ModelMetadataRequest(name="styled.encoder"))
    assert [tensor.name for tensor in told.inputs] == ["image", "label"]


@pytest.mark.parametrize(
    ("psi", "problem"),
    [
        (np.array([0, 1.5, 2], np.float32), "row 1 holds 1.5; -0.5 to 1.0 are allowed"),
        (np.array([0, 0, np.nan], np.float32), "row 2 holds a value that is not finite"),
        (np.zeros(2, np.float32), "2 rows where latent has 3"),
        (np.zeros((3, 1), np.float32), "shape [3, 1] where [n] is wanted"),
    ],
)
async def test_the_open_inference_protocol_refuses_others(
    served: RunningServer, psi: NDArray[np.float32], problem: str
) -> None:
    oip = inference_pb2_grpc.GRPCInferenceServiceStub(served.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await oip.ModelInfer(inference(psi, drawn(9, 0, 3)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == f"inputs.psi: {problem}"
