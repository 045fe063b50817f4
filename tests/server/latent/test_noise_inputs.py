"""Decoders that take noise beside their latents: whose noise a row has, in every call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.oip import inference_pb2, inference_pb2_grpc
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.latent.noise import NoiseSource

MODEL = TinyModel(noises=2, labels=4)
REF = pb.ModelRef(name="noisy")
FLOAT32 = pb.Output(format=pb.IMAGE_FORMAT_FLOAT32)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server of the model, whose batches hold 8 rows."""
    MODEL.write(tmp_path / "noisy" / "1")
    async with running_server(tmp_path, max_batch_rows=8) as server:
        yield server


def drawn(stream: int, seed: int, first: int, rows: int, dim: int) -> NDArray[np.float32]:
    return NoiseSource().draw(seed, first, rows, dim, stream)


def images(
    latents: NDArray[np.float32], labels: NDArray[np.int64], seed: int, indices: list[int]
) -> NDArray[np.float64]:
    """What the decoder makes of latents, with the noise of rows of a seed."""
    noise = [[drawn(stream, seed, index, 1, MODEL.pixels) for index in indices] for stream in (3, 4)]
    logits = MODEL.logits(latents, labels) + np.sum(noise, axis=0).reshape(-1, *MODEL.shape)
    return np.asarray(1 / (1 + np.exp(-logits)))


async def test_a_sample_has_the_noise_of_its_own_index(served: RunningServer) -> None:
    async def sample(first: int, count: int) -> NDArray[np.float32]:
        request = pb.SampleRequest(model=REF, seed=7, first_index=first, count=count, output=FLOAT32, labels=[2])
        return to_ndarray((await served.generation.Sample(request)).images.tensor)

    whole, *parts = await asyncio.gather(sample(5, 20), sample(5, 1), sample(6, 3), sample(9, 16))
    expected = images(drawn(0, 7, 5, 20, 3), np.full(20, 2), 7, list(range(5, 25)))
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


async def test_shaping_changes_the_latent_alone(served: RunningServer) -> None:
    shaping = pb.Shaping(temperature=0)
    request = pb.SampleRequest(model=REF, seed=7, count=3, output=FLOAT32, labels=[1], shaping=shaping)
    found = to_ndarray((await served.generation.Sample(request)).images.tensor)
    expected = images(np.zeros((3, 3), np.float32), np.ones(3, np.int64), 7, [0, 1, 2])
    np.testing.assert_allclose(found, expected, atol=1e-5)


async def test_a_latent_that_is_given_is_one_image(served: RunningServer) -> None:
    latents, labels = drawn(0, 9, 0, 11, 3), np.arange(11) % 4
    expected = images(latents, labels, 0, [0] * 11)
    request = pb.DecodeRequest(model=REF, latents=from_ndarray(latents), output=FLOAT32, labels=labels)
    np.testing.assert_allclose(to_ndarray((await served.generation.Decode(request)).images.tensor), expected, atol=1e-5)
    oip = inference_pb2_grpc.GRPCInferenceServiceStub(served.channel)
    told = await oip.ModelMetadata(inference_pb2.ModelMetadataRequest(name="noisy"))
    assert [tensor.name for tensor in told.inputs] == ["latent", "label"]
    inputs = [
        inference_pb2.ModelInferRequest.InferInputTensor(name="latent", datatype="FP32", shape=[11, 3]),
        inference_pb2.ModelInferRequest.InferInputTensor(name="label", datatype="INT64", shape=[11]),
    ]
    contents = [latents.tobytes(), labels.tobytes()]
    reply = await oip.ModelInfer(
        inference_pb2.ModelInferRequest(model_name="noisy", inputs=inputs, raw_input_contents=contents)
    )
    found = dict(zip([output.name for output in reply.outputs], reply.raw_output_contents, strict=True))["image"]
    np.testing.assert_allclose(np.frombuffer(found, np.float32).reshape(expected.shape), expected, atol=1e-5)


async def test_reconstructions_and_scores_are_of_the_given_latents(served: RunningServer) -> None:
    x, labels = MODEL.random_images(9), np.arange(9) % 4
    mean = MODEL.posterior(x / 255, labels)[0].astype(np.float32)
    expected = images(mean, labels, 0, [0] * 9)
    tensor = pb.Images(tensor=from_ndarray(x))
    reply = await served.generation.Reconstruct(
        pb.ReconstructRequest(model=REF, images=tensor, output=FLOAT32, labels=labels)
    )
    np.testing.assert_allclose(to_ndarray(reply.images.tensor), expected, atol=1e-5)
    plain, drawn_once = [
        await served.generation.Score(pb.ScoreRequest(model=REF, images=tensor, labels=labels, draws=draws))
        for draws in (0, 1)
    ]
    np.testing.assert_allclose(plain.reconstruction_error, reply.reconstruction_error, rtol=1e-5)
    assert len(drawn_once.importance_bound) == 9


async def test_a_prior_graph_gives_the_latents_beside_the_noise_of_the_same_rows(tmp_path: Path) -> None:
    model = TinyModel(kind="autoencoder", noise_dim=2, noises=1, labels=3, channels=5, likelihood="")
    model.write(tmp_path / "noisy" / "1")
    labels, x = np.arange(4, 13) % 3, model.random_images(9)

    def shown(latents: NDArray[Any], noise: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(-model.logits(latents, labels) - noise.reshape(-1, *model.shape))))

    async with running_server(tmp_path, max_batch_rows=4) as served:
        request = pb.SampleRequest(model=REF, seed=7, first_index=4, count=9, output=FLOAT32)
        sampled = (await served.generation.Sample(request)).images.tensor
        images = pb.Images(tensor=from_ndarray(x))
        again = pb.ReconstructRequest(model=REF, images=images, output=FLOAT32, labels=labels)
        reconstructed = (await served.generation.Reconstruct(again)).images.tensor
    latents = model.from_noise(drawn(0, 7, 4, 9, 2), labels)
    np.testing.assert_allclose(to_ndarray(sampled), shown(latents, drawn(3, 7, 4, 9, model.pixels)), atol=1e-5)
    constant = np.repeat(drawn(3, 0, 0, 1, model.pixels), 9, axis=0)
    means, _ = model.posterior(x / 255, labels)
    np.testing.assert_allclose(to_ndarray(reconstructed), shown(means, constant), atol=1e-5)
