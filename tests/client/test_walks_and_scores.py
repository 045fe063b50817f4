"""The calls that walk and score, and the options that calls share, by both clients against a real server."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latentserve.v1 import generation_pb2
from latentserve_client import Axis, InvalidArgumentError, PosteriorMeans, Seeds

Invoke = Callable[..., Awaitable[Any]]
Attempts = list[tuple[str, str, Any]]


def pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 4, 6), np.uint8)


def file_of(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file := io.BytesIO(), format=kind, lossless=True)
    return file.getvalue()


def pixels_of(file: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(file))).transpose(2, 0, 1)


async def test_a_path_has_both_its_ends(invoke: Invoke) -> None:
    start, end = np.zeros((2, 5), np.float32), np.arange(10.0).reshape(2, 5)
    walk = await invoke("interpolate", "linear", start, end, 3)
    np.testing.assert_allclose(walk.latents[:3], [start[0], end[0] / 2, end[0]])
    np.testing.assert_allclose(walk.latents[3:], [start[1], end[1] / 2, end[1]])
    np.testing.assert_array_equal(walk.images, (await invoke("decode", "linear", walk.latents)).images)
    assert (walk.served.model, walk.served.version) == ("linear", 2)


async def test_points_are_given_drawn_or_encoded(invoke: Invoke) -> None:
    images = pictures(2)
    walk = await invoke("interpolate", "linear:1", Seeds([3, 4]), PosteriorMeans(images), 2)
    drawn = [(await invoke("sample", "linear:1", 1, seed=seed)).images[0] for seed in (3, 4)]
    encoded = (await invoke("reconstruct", "linear:1", images)).images
    np.testing.assert_array_equal(walk.images, [drawn[0], encoded[0], drawn[1], encoded[1]])


async def test_the_way_is_the_one_asked_for(invoke: Invoke, attempts: Attempts) -> None:
    await invoke("interpolate", "linear", Seeds([1]), Seeds([2]), 4)
    await invoke("interpolate", "linear", Seeds([1]), Seeds([2]), 4, spherical=True)
    paths = [request.path for _, _, request in attempts]
    assert paths == [generation_pb2.PATH_LINEAR, generation_pb2.PATH_SPHERICAL]


async def test_a_traversal_moves_its_axes_alone(invoke: Invoke) -> None:
    origin = np.arange(5.0)[np.newaxis]
    walk = await invoke("traverse", "linear", [Axis(4, -1, 1, 3), Axis(0, 5, 6, 2)], origin=origin)
    expected = np.repeat(origin, 6, axis=0)
    expected[:, 4], expected[:, 0] = [-1, -1, 0, 0, 1, 1], [5, 6] * 3
    np.testing.assert_array_equal(walk.latents, expected)
    np.testing.assert_array_equal(walk.images, (await invoke("decode", "linear", expected)).images)
    around_zero = await invoke("traverse", "linear", [Axis(1, 0, 2, 3)])
    np.testing.assert_array_equal(around_zero.latents, np.outer([0, 1, 2], np.eye(5)[1]))


async def test_scores_at_the_mean_are_the_reconstruction_costs(invoke: Invoke) -> None:
    images = pictures(3)
    scores, costs = await invoke("score", "linear", images), await invoke("reconstruct", "linear", images)
    np.testing.assert_allclose(scores.reconstruction_error, costs.reconstruction_error, rtol=1e-5)
    np.testing.assert_allclose(scores.kl, costs.kl, rtol=1e-5)
    np.testing.assert_allclose(scores.elbo, -(scores.reconstruction_error + scores.kl), rtol=1e-5)
    assert scores.importance_bound is None


async def test_scores_over_draws_are_the_same_every_time(invoke: Invoke, attempts: Attempts) -> None:
    images = pictures(2)
    first, second = [await invoke("score", "linear", images, draws=3) for _ in range(2)]
    np.testing.assert_array_equal(first.importance_bound, second.importance_bound)
    assert [request.HasField("seed") for _, _, request in attempts] == [False, False]
    seeded = await invoke("score", "linear", images, draws=3, seed=1)
    assert (seeded.importance_bound != first.importance_bound).all()
    tail = await invoke("score", "linear", images[1:], draws=3, first_index=1)
    np.testing.assert_array_equal(tail.elbo, first.elbo[1:])
    with pytest.raises(InvalidArgumentError, match=r"images \* draws"):
        await invoke("score", "linear", images, draws=5)


async def test_shaping_is_done_to_the_noise(invoke: Invoke, attempts: Attempts) -> None:
    mean = (await invoke("sample", "linear", 3, temperature=0)).images
    np.testing.assert_array_equal(mean, np.full_like(mean, 0.5))
    await invoke("sample", "linear", 3, truncation=0.5)
    await invoke("sample", "linear", 3)
    shapings = [request.shaping for _, _, request in attempts]
    assert [shaping.HasField("temperature") for shaping in shapings] == [True, False, False]
    assert [shaping.HasField("truncation") for shaping in shapings] == [False, True, False]


async def test_half_floats_are_floats_of_half_the_size(invoke: Invoke) -> None:
    whole = (await invoke("sample", "linear", 3, seed=1)).images
    half = (await invoke("sample", "linear", 3, seed=1, format="float16")).images
    np.testing.assert_array_equal(half, whole.astype(np.float16))


@pytest.mark.parametrize(("kind", "error"), [("png", 0), ("webp", 0), ("jpeg", 30)])
async def test_files_hold_the_pixels(invoke: Invoke, kind: str, error: int) -> None:
    walk = await invoke("traverse", "linear", [Axis(0, -1, 1, 4)], format=kind)
    expected = (await invoke("decode", "linear", walk.latents, format="uint8")).images
    assert [Image.open(io.BytesIO(file)).format for file in walk.files] == [kind.upper()] * 4
    np.testing.assert_allclose([pixels_of(file) for file in walk.files], expected, atol=error)


async def test_a_grid_is_one_file(invoke: Invoke) -> None:
    (grid,) = (await invoke("sample", "linear", 5, seed=1, format="png", grid_columns=3)).files
    single = (await invoke("sample", "linear", 5, seed=1, format="uint8")).images
    assert pixels_of(grid).shape == (3, 2 * 4, 3 * 6)
    np.testing.assert_array_equal(pixels_of(grid)[:, 4:, 6:12], single[4])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_files_of_any_size_are_resized_where_asked(invoke: Invoke, kind: str) -> None:
    large = np.random.default_rng(1).integers(0, 256, (3, 9, 7), np.uint8)
    small = Image.fromarray(large.transpose(1, 2, 0)).resize((6, 4), Image.Resampling.BICUBIC)
    expected = await invoke("encode", "linear", np.asarray(small).transpose(2, 0, 1)[np.newaxis])
    posterior = await invoke("encode", "linear", [file_of(large, kind)], resize=True)
    np.testing.assert_array_equal(posterior.mean, expected.mean)
    walk = await invoke("interpolate", "linear", PosteriorMeans([file_of(large)], resize=True), Seeds([1]), 2)
    np.testing.assert_array_equal(walk.latents[0], expected.mean[0])
    with pytest.raises(InvalidArgumentError, match="images"):
        await invoke("encode", "linear", [file_of(large)])


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("sample", (1,)),
        ("encode", (pictures(1),)),
        ("decode", (np.zeros((1, 5)),)),
        ("reconstruct", (pictures(1),)),
        ("interpolate", (Seeds([1]), Seeds([2]), 2)),
        ("traverse", ([Axis(0, -1, 1, 2)],)),
        ("score", (pictures(1),)),
    ],
)
async def test_every_call_has_a_priority(
    invoke: Invoke, attempts: Attempts, method: str, args: tuple[Any, ...]
) -> None:
    for priority in (None, "bulk", "interactive"):
        await invoke(method, "linear", *args, priority=priority)
    assert [request.priority for _, _, request in attempts] == [
        generation_pb2.PRIORITY_UNSPECIFIED,
        generation_pb2.PRIORITY_BULK,
        generation_pb2.PRIORITY_INTERACTIVE,
    ]
