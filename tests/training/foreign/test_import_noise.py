"""Importing decoders that take noise beside their latents, as StyleGAN's do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from running_server import running_server
from training.foreign_models import GAN, LATENTS, TANH, WEIGHTS, bring, refusal, write

from latentserve_client import AsyncClient
from latentserve_server.latent.noise import NoiseSource
from latentserve_training import commands

Capture = pytest.CaptureFixture[str]


def noisy(form: str, read: str = "f = Flatten(n)") -> str:
    """The decoder, with an input `n` of that form, whose reading `f` is added to what Tanh takes."""
    added = f"{read}\n m = Add(h, f)\n y = Tanh(m)"
    return TANH.replace("float[N, 3] z", f"float[N, 3] z, {form}").replace("y = Tanh(h)", added)


def described(**decoder: Any) -> dict[str, Any]:
    return {**GAN, "image_range": [-1, 1], "decoder": {"file": "g.onnx", "noise": ["n"], **decoder}}


def drawn(latents: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.float32]:
    return ((np.tanh(latents @ WEIGHTS["w"] + noise.reshape(-1, 12)) + 1) / 2).reshape(-1, 3, 2, 2)


@pytest.mark.parametrize(
    ("graph", "decoder"),
    [
        (noisy("float[N, 12] n"), {}),
        (noisy("float[N, 1, 3, 4] n"), {}),
        (noisy("double[N, 3, 4] n", "d = Flatten(n)\n f = Cast<to = 1>(d)"), {}),
        (noisy("float[N, 12] image", "f = Identity(image)"), {"noise": ["image"]}),
        (noisy("float[1, 12] n").replace("[N", "[1"), {}),
    ],
)
async def test_a_served_row_has_noise_of_its_own(tmp_path: Path, graph: str, decoder: dict[str, Any]) -> None:
    write(tmp_path / "g.onnx", graph)
    assert bring(tmp_path, described(**decoder)) == 0
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        sampled = await client.sample("m", 5, seed=7, first_index=2)
        decoded = await client.decode("m", LATENTS)
    source = NoiseSource()
    expected = drawn(source.draw(7, 2, 5, 3, 0), source.draw(7, 2, 5, 12, 3))
    np.testing.assert_allclose(sampled.images, expected, rtol=0, atol=1e-5)
    always = np.repeat(source.draw(0, 0, 1, 12, 3), 5, axis=0)
    np.testing.assert_allclose(decoded.images, drawn(LATENTS, always), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("graph", "decoder", "message"),
    [
        (
            noisy("float[N, 12] n"),
            {"noise": None},
            "decoder: inputs are ['z', 'n']; there must be one; name it in decoder.latent, and give others a value: "
            "`inputs: {n: 0.0}`, or `noise: [n]` if it is drawn anew for every image",
        ),
        (noisy("float[N, 12] n"), {"noise": ["n", "m"]}, "decoder: no input 'm'; there are ['z', 'n']"),
        (
            noisy("float[N, M] n"),
            {},
            "decoder.noise: 'n' is float32 [N, M]; noise is float32, float16 or float64, of a shape that the file says",
        ),
        (
            noisy("int64[N, 12] n", "f = Cast<to = 1>(n)"),
            {},
            "decoder.noise: 'n' is int64 [N, 12]; noise is float32, float16 or float64, of a shape that the file says",
        ),
        (
            noisy("float[N, 12, 6000] n", "r = Constant<value_ints = [2]>()\n f = ReduceMean<keepdims = 0>(n, r)"),
            {},
            "decoder.noise: 'n' is float32 [N, 12, 6000], 72,000 values a row; at most 65,536 are allowed",
        ),
        (
            noisy("float[1, 12] n"),
            {},
            "decoder: the batch axis of 'n' is fixed at 1; export it with a batch that varies (torch.onnx.export: "
            "dynamic_shapes, of the older exporter dynamic_axes)",
        ),
    ],
)
def test_noise_that_does_not_fit_is_refused(
    tmp_path: Path, capsys: Capture, graph: str, decoder: dict[str, Any], message: str
) -> None:
    write(tmp_path / "g.onnx", graph)
    assert refusal(tmp_path, capsys, described(**decoder)) == (1, message)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (["n", "n"], "decoder: 'n' is described twice; an input is the latent, labels, noise or fixed"),
        (["z"], "decoder: 'z' is described twice; an input is the latent, labels, noise or fixed"),
        ([f"n{k}" for k in range(65)], "decoder.noise names 65 inputs; at most 64 are allowed"),
    ],
)
def test_noise_that_cannot_be_is_wrong_usage(tmp_path: Path, capsys: Capture, noise: list[str], message: str) -> None:
    code, said = refusal(tmp_path, capsys, described(latent="z", noise=noise))
    assert code == 2
    assert said.endswith(f": {message}")


@pytest.mark.parametrize(
    ("arrays", "code", "message"),
    [
        ({"n": np.ones((5, 12), np.float32)}, 0, "decoder: largest difference from 5 rows of samples.npz: image "),
        ({"n": np.zeros((5, 12), np.float32)}, 1, "decoder: image differs from samples.npz by "),
        ({}, 1, "samples.npz: n is missing, the noise that the images were drawn with"),
        ({"m": np.ones((5, 12))}, 1, "; known are latent, image, label, mean, "),
    ],
)
def test_a_reference_has_the_noise_that_its_images_were_drawn_with(
    tmp_path: Path, capsys: Capture, arrays: dict[str, NDArray[Any]], code: int, message: str
) -> None:
    write(tmp_path / "g.onnx", noisy("float[N, 12] n"))
    bring(tmp_path, described())
    image = 2 * drawn(LATENTS, np.ones((5, 12), np.float32)) - 1
    np.savez(tmp_path / "samples.npz", latent=LATENTS, image=image, **arrays)
    argv = [str(tmp_path / "model.yaml"), "--repository", str(tmp_path / "models"), "--name", "m"]
    assert commands.import_model([*argv, "--reference", str(tmp_path / "samples.npz")]) == code
    assert message in capsys.readouterr().err
