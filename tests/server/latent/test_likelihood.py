"""A model's costs are those of its own likelihood, computed here from its weights in float64."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference_requests import arrays_of, infer_request, stub_of
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from scipy.special import expit
from scipy.stats import norm
from tested_device import assert_agree, tolerance
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.latent.noise import NoiseSource, Stream

Float64 = NDArray[np.float64]


def gaussian(x: Float64, image: Float64, log_scale: Float64) -> Float64:
    return np.asarray(-norm(image, np.exp(log_scale)).logpdf(x).sum(axis=(1, 2, 3)))


def discretized_logistic(x: Float64, image: Float64, log_scale: Float64) -> Float64:
    scale, side = np.exp(log_scale), np.where(x > image, -1, 1)  # on its own side, a tail is not rounded away
    upper = expit(side * np.where(x > 254.5 / 255, np.inf, (x + 1 / 510 - image) / scale))
    lower = expit(side * np.where(x < 0.5 / 255, -np.inf, (x - 1 / 510 - image) / scale))
    return np.asarray(-np.log(np.abs(upper - lower)).sum(axis=(1, 2, 3)))


COSTS: dict[str, Callable[[Float64, Float64, Float64], Float64]] = {
    "gaussian": gaussian,
    "discretized_logistic": discretized_logistic,
}
MODELS = {name: TinyModel(likelihood=name, seed=4, spread=0.3) for name in COSTS}
PIXELS = MODELS["gaussian"].random_images(12)
PIXELS[0, 0, 0] = [0, 255, 0, 255, 1]
IMAGES = pb.Images(tensor=from_ndarray(PIXELS))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[RunningServer]:
    for name, model in MODELS.items():
        model.write(tmp_path / name / "1")
    async with running_server(tmp_path) as server:
        yield server


def expected(name: str, latents: NDArray[Any], pixels: NDArray[Any]) -> Float64:
    model = MODELS[name]
    return COSTS[name](pixels / 255, model.images(latents), model.log_scale(latents))


@pytest.mark.parametrize("output", [pb.IMAGE_FORMAT_FLOAT32, pb.IMAGE_FORMAT_UINT8])
@pytest.mark.parametrize("name", COSTS)
async def test_reconstruct_costs_what_the_likelihood_says(
    served: RunningServer, name: str, output: pb.ImageFormat
) -> None:
    request = pb.ReconstructRequest(model=pb.ModelRef(name=name), images=IMAGES, output=pb.Output(format=output))
    reply = await served.generation.Reconstruct(request)
    mean, _ = MODELS[name].posterior(PIXELS / 255)
    np.testing.assert_allclose(reply.reconstruction_error, expected(name, mean, PIXELS), rtol=1e-3, atol=1e-2)
    image = to_ndarray(reply.images.tensor) / (255 if output == pb.IMAGE_FORMAT_UINT8 else 1)
    np.testing.assert_allclose(image, MODELS[name].images(mean), atol=0.51 / 255)


@pytest.mark.parametrize("name", COSTS)
async def test_score_averages_the_likelihood_over_its_draws(served: RunningServer, name: str) -> None:
    model, draws = MODELS[name], 4
    request = pb.ScoreRequest(model=pb.ModelRef(name=name), images=IMAGES, draws=draws, seed=6)
    reply = await served.generation.Score(request)
    mean, log_variance = model.posterior(PIXELS / 255)
    noise = NoiseSource().draw(6, 0, 12 * draws, 3, Stream.POSTERIOR)
    latents = np.repeat(mean, draws, axis=0) + np.exp(np.repeat(log_variance, draws, axis=0) / 2) * noise
    cost = expected(name, latents, np.repeat(PIXELS, draws, axis=0)).reshape(12, draws).mean(axis=1)
    np.testing.assert_allclose(reply.reconstruction_error, cost, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(reply.elbo, -(np.array(reply.reconstruction_error) + reply.kl), rtol=1e-6)
    assert len(reply.importance_bound) == 12


@pytest.mark.parametrize("name", COSTS)
async def test_the_inference_protocol_gives_the_scale_and_the_same_costs(served: RunningServer, name: str) -> None:
    latents = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    outputs = arrays_of(await stub_of(served).ModelInfer(infer_request(name, "latent", latents)))
    assert list(outputs) == ["image", "image_uint8", "log_scale"]
    np.testing.assert_allclose(outputs["log_scale"], MODELS[name].log_scale(latents), atol=tolerance(1e-5))
    request = infer_request(f"{name}.reconstruct", "image", PIXELS, "reconstruction_error")
    costs = arrays_of(await stub_of(served).ModelInfer(request))
    reply = await served.generation.Reconstruct(pb.ReconstructRequest(model=pb.ModelRef(name=name), images=IMAGES))
    assert_agree(costs["reconstruction_error"].tolist(), list(reply.reconstruction_error))
