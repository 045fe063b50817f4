"""Importing fully convolutional graphs, whose image's sides follow those of the latent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_server import running_server
from training.foreign_models import GAN, bring, refusal, write

from latentserve_client import AsyncClient
from latentserve_server.latent.noise import NoiseSource

Capture = pytest.CaptureFixture[str]

WIDE = "g (float[N, 3, H, W] z) => (float[N, 3, H, W] x) { x = Tanh(z) }"
ENCODER = "e (float[N, 3, H, W] a) => (float[N, 3, H, W] mu, float[N, 3, H, W] s) { mu = Identity(a)\n s = Neg(a) }"
LONG = "g (float[N, L] z) => (float[N, 3, 2, 2] x) { y = Tanh(z)\n x = Reshape(y, shape) }"
NOWHERE = "g (float[N, H, W] z) => (float[N, 3, 2, 2] x) { y = Tanh(z)\n x = Reshape(y, shape) }"


def described(**options: Any) -> dict[str, Any]:
    return {**{key: value for key, value in GAN.items() if key != "latent_dim"}, "image_range": [-1, 1], **options}


@pytest.mark.parametrize("shape", [[3, 2, 2], [3, 4, 6]])
@pytest.mark.parametrize("told", [False, True])
async def test_a_bundle_has_the_size_that_its_description_chooses(tmp_path: Path, shape: list[int], told: bool) -> None:
    write(tmp_path / "g.onnx", WIDE)
    write(tmp_path / "e.onnx", ENCODER)
    encoder = {"file": "e.onnx", "mean": "mu", "log_variance": "s"}
    vae = described(kind="vae", likelihood="gaussian", log_scale=0, encoder=encoder, latent_shape=shape)
    assert bring(tmp_path, {**vae, "image_shape": shape} if told else vae) == 0
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        info = await client.model("m")
        sampled = await client.sample("m", 2, seed=7)
        encoded = await client.encode("m", sampled.images)
    assert (info.latent_shape, info.image_shape) == (tuple(shape), tuple(shape))
    latents = NoiseSource().draw(7, 0, 2, int(np.prod(shape)), 0).reshape(2, *shape)
    np.testing.assert_allclose(sampled.images, (np.tanh(latents) + 1) / 2, rtol=0, atol=1e-5)
    np.testing.assert_allclose(encoded.mean, np.tanh(latents), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("graph", "options"), [(LONG, {"latent_dim": 12}), (NOWHERE, {"latent_shape": [4, 3]})])
def test_open_sides_that_the_description_settles_are_taken(tmp_path: Path, graph: str, options: dict[str, Any]) -> None:
    write(tmp_path / "g.onnx", graph)
    assert bring(tmp_path, described(**options)) == 0


OPEN = "of no one size, and a bundle has one"
SET = "does not say which: set latent_shape, and import each other size as a model of its own"


@pytest.mark.parametrize(
    ("graph", "options", "message"),
    [
        (WIDE, {"latent_dim": 12}, f"decoder: 'z' is float32 [N, 3, H, W], {OPEN}; latent_dim 12 {SET}"),
        (
            WIDE,
            {"latent_shape": [4, 2, 2]},
            f"decoder: 'z' is float32 [N, 3, H, W], {OPEN}; latent_shape [4, 2, 2] {SET}",
        ),
        (
            WIDE,
            {"latent_shape": [3, 4]},
            f"decoder: 'z' is float32 [N, 3, H, W], {OPEN}; latent_shape [3, 4] {SET}",
        ),
        (NOWHERE, {"latent_dim": 12}, f"decoder: 'z' is float32 [N, H, W], {OPEN}; latent_dim 12 {SET}"),
        (
            WIDE,
            {"latent_shape": [3, 2, 2], "image_shape": [3, 4, 4]},
            "decoder: 'x' is [batch, 3, 2, 2], which is not image_shape [3, 4, 4]",
        ),
    ],
)
def test_sizes_that_are_not_chosen_are_refused(
    tmp_path: Path, capsys: Capture, graph: str, options: dict[str, Any], message: str
) -> None:
    write(tmp_path / "g.onnx", graph)
    assert refusal(tmp_path, capsys, described(**options)) == (1, message)
