"""Walks, scores, shaped noise and picture files of every kind, by both clients, against a real server."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from client.served_linear import LATENT, MODELS, noise, pictures
from numpy.typing import NDArray
from PIL import Image

from latentserve_client import Axis, InvalidArgumentError, PosteriorMeans, Seeds

Invoke = Callable[..., Awaitable[Any]]
MODEL = MODELS[2]


def file_of(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file := io.BytesIO(), format=kind, lossless=True)
    return file.getvalue()


def pixels_of(file: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(file))).transpose(2, 0, 1)


async def test_a_path_has_both_its_ends(invoke: Invoke) -> None:
    start, end = np.zeros((2, LATENT), np.float32), np.arange(10.0).reshape(2, LATENT)
    walk = await invoke("interpolate", "linear", start, end, 3)
    np.testing.assert_allclose(walk.latents[:3], [start[0], end[0] / 2, end[0]])
    np.testing.assert_allclose(walk.latents[3:], [start[1], end[1] / 2, end[1]])
    np.testing.assert_allclose(walk.images, MODEL.images(walk.latents), atol=1e-5)
    assert (walk.served.model, walk.served.version) == ("linear", 2)


async def test_a_spherical_path_keeps_the_length_of_its_latents(invoke: Invoke) -> None:
    start, end = 3 * np.eye(LATENT)[:1], 3 * np.eye(LATENT)[1:2]
    for spherical, middle in ((False, 1.5), (True, 3 * 0.5**0.5)):
        walk = await invoke("interpolate", "linear", start, end, 3, spherical=spherical)
        np.testing.assert_allclose(walk.latents[1, :2], [middle, middle], rtol=1e-6)
        np.testing.assert_allclose(walk.latents[[0, 2]], [start[0], end[0]], atol=1e-6)


async def test_points_are_given_drawn_or_encoded(invoke: Invoke) -> None:
    images = pictures(2)
    walk = await invoke("interpolate", "linear", Seeds([3, 4]), PosteriorMeans(images), 2)
    mean, _ = MODEL.posterior(images / 255)
    drawn = [noise(seed, 0, 1)[0] for seed in (3, 4)]
    np.testing.assert_allclose(walk.latents, [drawn[0], mean[0], drawn[1], mean[1]], atol=1e-5)
    np.testing.assert_allclose(walk.images, MODEL.images(walk.latents), atol=1e-5)


async def test_a_traversal_moves_its_axes_alone(invoke: Invoke) -> None:
    origin = np.arange(5.0)[np.newaxis]
    walk = await invoke("traverse", "linear", [Axis(4, -1, 1, 3), Axis(0, 5, 6, 2)], origin=origin)
    expected = np.repeat(origin, 6, axis=0)
    expected[:, 4], expected[:, 0] = [-1, -1, 0, 0, 1, 1], [5, 6] * 3
    np.testing.assert_array_equal(walk.latents, expected)
    np.testing.assert_allclose(walk.images, MODEL.images(expected), atol=1e-5)
    around_zero = await invoke("traverse", "linear", [Axis(1, 0, 2, 3)])
    np.testing.assert_array_equal(around_zero.latents, np.outer([0, 1, 2], np.eye(5)[1]))


async def test_scores_at_the_mean_are_the_reconstruction_costs(invoke: Invoke) -> None:
    images = pictures(3)
    scores, costs = await invoke("score", "linear", images), await invoke("reconstruct", "linear", images)
    np.testing.assert_allclose(scores.reconstruction_error, costs.reconstruction_error, rtol=1e-4)
    np.testing.assert_allclose(scores.kl, costs.kl, rtol=1e-4)
    np.testing.assert_allclose(scores.elbo, -(scores.reconstruction_error + scores.kl), rtol=1e-5)
    assert scores.importance_bound is None


async def test_scores_over_draws_are_the_same_every_time(invoke: Invoke) -> None:
    images = pictures(2)
    first, second = [await invoke("score", "linear", images, draws=3) for _ in range(2)]
    np.testing.assert_array_equal(first.importance_bound, second.importance_bound)
    assert (first.importance_bound >= first.elbo).all()
    seeded = await invoke("score", "linear", images, draws=3, seed=1)
    assert (seeded.importance_bound != first.importance_bound).all()
    tail = await invoke("score", "linear", images[1:], draws=3, first_index=1)
    np.testing.assert_allclose(tail.elbo, first.elbo[1:], rtol=1e-5)
    with pytest.raises(InvalidArgumentError, match="draws"):
        await invoke("score", "linear", images, draws=5)


async def test_shaping_is_done_to_the_noise(invoke: Invoke) -> None:
    drawn = noise(9, 0, 3)
    for shaping, latents in (
        ({"temperature": 0}, 0 * drawn),
        ({"temperature": 0.5}, drawn / 2),
        ({"truncation": 8.0}, drawn),
    ):
        samples = await invoke("sample", "linear", 3, seed=9, **shaping)
        np.testing.assert_allclose(samples.images, MODEL.images(latents), atol=1e-5)
    narrow = await invoke("sample", "linear", 8, seed=9, truncation=0.5)
    assert (narrow.images != (await invoke("sample", "linear", 8, seed=9)).images).any()


async def test_half_floats_are_floats_of_half_the_size(invoke: Invoke) -> None:
    whole = (await invoke("sample", "linear", 3, seed=1)).images
    half = (await invoke("sample", "linear", 3, seed=1, format="float16")).images
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, whole, rtol=1e-3)


@pytest.mark.parametrize(("kind", "error"), [("png", 0), ("webp", 0), ("jpeg", 60)])
async def test_files_hold_the_pixels(invoke: Invoke, kind: str, error: int) -> None:
    walk = await invoke("traverse", "linear", [Axis(0, -1, 1, 4)], format=kind)
    expected = (await invoke("decode", "linear", walk.latents, format="uint8")).images
    assert [Image.open(io.BytesIO(file)).format for file in walk.files] == [kind.upper()] * 4
    np.testing.assert_allclose([pixels_of(file) for file in walk.files], expected, atol=error)


async def test_a_grid_is_one_file(invoke: Invoke) -> None:
    (grid,) = (await invoke("sample", "linear", 5, seed=1, format="png", grid_columns=3)).files
    single = (await invoke("sample", "linear", 5, seed=1, format="uint8")).images
    assert pixels_of(grid).shape == (3, 4 + 2 + 4, 6 + 2 + 6 + 2 + 6)  # 2 pixels apart
    np.testing.assert_array_equal(pixels_of(grid)[:, 6:, 8:14], single[4])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_files_of_any_size_are_resized_where_asked(invoke: Invoke, kind: str) -> None:
    large = np.random.default_rng(1).integers(0, 256, (3, 9, 7), np.uint8)
    small = Image.fromarray(large.transpose(1, 2, 0)).resize((6, 4), Image.Resampling.BICUBIC)
    mean, _ = MODEL.posterior(np.asarray(small).transpose(2, 0, 1)[np.newaxis] / 255)
    posterior = await invoke("encode", "linear", [file_of(large, kind)], resize=True)
    np.testing.assert_allclose(posterior.mean, mean, atol=1e-5)
    walk = await invoke("interpolate", "linear", PosteriorMeans([file_of(large)], resize=True), Seeds([1]), 2)
    np.testing.assert_allclose(walk.latents[:1], mean, atol=1e-5)
    with pytest.raises(InvalidArgumentError, match="images"):
        await invoke("encode", "linear", [file_of(large)])
