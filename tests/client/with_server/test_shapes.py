"""Latents with a shape and images of many channels, through both clients and the command, on a real server."""

from __future__ import annotations

import io
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client.served_linear import serving, to_uint8
from numpy.typing import NDArray
from PIL import Image
from tiny_bundle import TinyModel

from latentserve_client import Axis, Client, InvalidArgumentError, PosteriorMeans, Seeds
from latentserve_client.cli.output import draw_grid, draw_pairs

Invoke = Callable[..., Awaitable[Any]]
Run = Callable[..., tuple[int, str, str]]
SHAPE = (3, 2, 2)
WIDE = TinyModel(latent_dim=12, latent_shape=SHAPE, channels=13)
CLEAR = TinyModel(latent_dim=12, latent_shape=SHAPE, channels=4)
CODED = TinyModel(kind="vq", codes=6, latent_dim=12, latent_shape=SHAPE, channels=4, likelihood="")
ROWS = np.random.default_rng(5).standard_normal((5, 12)).astype(np.float32)
LATENTS = ROWS.reshape(5, *SHAPE)
EITHER = pytest.mark.parametrize("latents", [ROWS, LATENTS], ids=["rows", "shaped"])


@pytest.fixture(scope="module")
def shaped_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of "wide", of 13 channels, "clear", of 4, and "coded", with codes; 8 rows a call."""
    root = tmp_path_factory.mktemp("served") / "models"
    WIDE.write(root / "wide" / "1")
    CLEAR.write(root / "clear" / "1")
    CODED.write(root / "coded" / "1")
    with serving(root) as address:
        yield address


@pytest.fixture
def target(shaped_server: str) -> str:
    return shaped_server


def pixels_of(file: bytes) -> NDArray[np.uint8]:
    return np.atleast_3d(np.asarray(Image.open(io.BytesIO(file)))).transpose(2, 0, 1)


async def test_a_model_says_the_shape_of_its_latents(invoke: Invoke) -> None:
    info = await invoke("model", "wide")
    assert (info.latent_dim, info.latent_shape, info.image_shape) == (12, SHAPE, (13, 4, 5))


async def test_posteriors_come_in_the_shape(invoke: Invoke) -> None:
    images = WIDE.random_images(3)
    posterior = await invoke("encode", "wide", images, draw_seed=4)
    mean, log_variance = WIDE.posterior(images / 255)
    assert posterior.mean.shape == posterior.log_variance.shape == posterior.z.shape == (3, *SHAPE)
    np.testing.assert_allclose(posterior.mean.reshape(3, 12), mean, atol=1e-4)
    np.testing.assert_allclose(posterior.log_variance.reshape(3, 12), log_variance, atol=1e-4)


@EITHER
async def test_latents_go_in_in_either_form(invoke: Invoke, latents: NDArray[np.float32]) -> None:
    decoded = await invoke("decode", "wide", latents)
    np.testing.assert_allclose(decoded.images, WIDE.images(ROWS), atol=1e-5)
    walk = await invoke("interpolate", "wide", latents[:4], Seeds(range(4)), 2)
    assert walk.latents.shape == (8, *SHAPE)
    np.testing.assert_array_equal(walk.latents[::2], LATENTS[:4])
    walk = await invoke("traverse", "wide", [Axis(7, 0, 1, 2)], origin=latents[:1])
    np.testing.assert_array_equal(walk.latents[:, 1, 1, 1], [0, 1])


async def test_another_shape_is_told_both(invoke: Invoke) -> None:
    told = re.escape("latents: float32 [5, 6, 2] where float32 [n, 3, 2, 2] or [n, 12] is wanted")
    with pytest.raises(InvalidArgumentError, match=told):
        await invoke("decode", "wide", LATENTS.reshape(5, 6, 2))


async def test_codes_have_the_shape_too(invoke: Invoke) -> None:
    images = CODED.random_images(3)
    codes = (await invoke("encode", "coded", images)).codes
    rows = CODED.nearest_codes(CODED.posterior(images / 255)[0])
    np.testing.assert_array_equal(codes, rows.reshape(3, *SHAPE), strict=True)
    for form in (codes, rows):
        decoded = await invoke("decode", "coded", form)
        np.testing.assert_allclose(decoded.images, CODED.images(CODED.embedded(rows)), atol=1e-5)


async def test_points_that_are_images_come_in_the_shape(invoke: Invoke) -> None:
    images = WIDE.random_images(2)
    walk = await invoke("interpolate", "wide", PosteriorMeans(images), PosteriorMeans(images[::-1]), 2)
    mean, _ = WIDE.posterior(images / 255)
    np.testing.assert_allclose(walk.latents[::2].reshape(2, 12), mean, atol=1e-4)


@pytest.mark.parametrize("bands", [[12], (3, 2, 1), [3, 2, 1, 0]])
async def test_files_show_the_bands(invoke: Invoke, bands: Any) -> None:
    how: dict[str, Any] = {"format": "png", "bands": bands}
    levels = to_uint8(WIDE.images(ROWS))[:, list(bands)]
    files = (await invoke("decode", "wide", LATENTS, **how)).files
    for file, image in zip(files, levels, strict=True):
        np.testing.assert_allclose(pixels_of(file).astype(int), image, atol=1)
    axes, images = [Axis(0, 0, 1, 2)], WIDE.random_images(1)
    for call in (
        ("sample", "wide", 1),
        ("reconstruct", "wide", images),
        ("interpolate", "wide", Seeds([1]), Seeds([2]), 2),
        ("traverse", "wide", axes),
    ):
        assert pixels_of((await invoke(*call, **how)).files[0]).shape == (len(bands), 4, 5)


async def test_streams_show_the_bands(collect: Callable[..., Awaitable[Any]]) -> None:
    chunks = await collect("wide", 5, seed=3, chunk_rows=2, format="webp", bands=[9, 9, 9, 0])
    assert [pixels_of(file).shape for chunk in chunks for file in chunk.files] == [(4, 4, 5)] * 5


async def test_pictures_without_bands_are_for_models_that_have_them(invoke: Invoke) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^output.format: .* name some in output.bands"):
        await invoke("sample", "wide", 1, format="png")
    assert pixels_of((await invoke("sample", "clear", 1, format="png")).files[0]).shape == (4, 4, 5)


@pytest.mark.parametrize(
    ("name", "told"), [("wide", "12 dimensions, 3 x 2 x 2"), ("coded", "12 codes of 6, 3 x 2 x 2")]
)
def test_the_command_says_the_shape(run: Run, name: str, told: str) -> None:
    code, out, _ = run("model", name)
    facts = dict(re.split(r" {2,}", line, maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    assert (code, facts["latent"]) == (0, told)


@EITHER
def test_files_of_latents_are_in_either_form(run: Run, tmp_path: Path, latents: NDArray[np.float32]) -> None:
    np.save(tmp_path / "z.npy", latents)
    assert run("decode", "wide", tmp_path / "z.npy", "-o", tmp_path / "x.npy")[0] == 0
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), WIDE.images(ROWS), atol=1e-5)


def test_files_of_codes_have_the_shape_and_are_taken_in_either_form(run: Run, tmp_path: Path) -> None:
    images = CODED.random_images(10)  # more than one call takes
    for index, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{index}.png")
    code, out, _ = run("encode", "coded", tmp_path, "-o", tmp_path / "z.npy")
    assert (code, "10 latents of 12 codes of 6, 3 x 2 x 2, as encoded" in out) == (0, True)
    codes, rows = np.load(tmp_path / "z.npy"), CODED.nearest_codes(CODED.posterior(images / 255)[0])
    np.testing.assert_array_equal(codes, rows.reshape(10, *SHAPE), strict=True)
    np.save(tmp_path / "rows.npy", rows)
    for name in ("z.npy", "rows.npy"):
        assert run("decode", "coded", tmp_path / name, "-o", tmp_path / "x.npy")[0] == 0
        np.testing.assert_allclose(np.load(tmp_path / "x.npy"), CODED.images(CODED.embedded(rows)), atol=1e-5)


def test_a_file_of_latents_of_another_shape_is_told_both(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", LATENTS[:, 0])
    code, _, err = run("decode", "wide", tmp_path / "z.npy", "-o", tmp_path / "x.npy")
    assert code == 1
    assert err.endswith("z.npy: float32 [5, 2, 2]; the model takes float32 [n, 3, 2, 2] or [n, 12]\n")


def test_encoded_files_with_alpha_become_latents_in_the_shape(run: Run, tmp_path: Path) -> None:
    images = CLEAR.random_images(10)  # more than one call takes
    for index, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{index}.png")
    code, out, err = run("encode", "clear", tmp_path, "-o", tmp_path / "z.npy")
    assert (code, err) == (0, "")
    assert "10 latents of 12 dimensions, 3 x 2 x 2, posterior means" in out
    latents, (mean, _) = np.load(tmp_path / "z.npy"), CLEAR.posterior(images / 255)
    assert latents.shape == (10, *SHAPE)
    np.testing.assert_allclose(latents.reshape(10, 12), mean, atol=1e-4)

    assert run("reconstruct", "clear", tmp_path, "--bands", "3,2,1", "-o", tmp_path / "pairs.webp")[0] == 0
    expected = np.asarray(draw_pairs(images[:, [3, 2, 1]], to_uint8(CLEAR.images(mean))[:, [3, 2, 1]])).astype(int)
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "pairs.webp")), expected, atol=1)


@pytest.mark.parametrize("count", [6, 20])
def test_pictures_of_the_command_show_the_bands(run: Run, target: str, tmp_path: Path, count: int) -> None:
    with Client(target) as client:
        chunks = client.stream_samples("wide", count, seed=7, format="uint8")
        levels = np.concatenate([chunk.images for chunk in chunks])[:, [12, 0, 12]]
    how = ("--count", count, "--seed", 7, "--bands", "12,0,12")
    assert run("sample", "wide", *how, "-o", tmp_path / "grid.png")[0] == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "grid.png")), np.asarray(draw_grid(levels)))
    assert run("sample", "wide", *how, "-o", f"{tmp_path}/folder/")[0] == 0
    for path, image in zip(sorted((tmp_path / "folder").iterdir()), levels, strict=True):
        np.testing.assert_array_equal(pixels_of(path.read_bytes()), image)


def test_walks_and_decoded_latents_of_the_command_show_the_bands(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", LATENTS)
    for words in (
        ("decode", "wide", tmp_path / "z.npy"),
        ("interpolate", "wide", "--from-seed", 1, "--to-seed", 2, "--steps", 3),
        ("traverse", "wide", "--axis", "11:0:1:3"),
    ):
        assert run(*words, "--bands", 4, "-o", tmp_path / "a.png")[0] == 0
        assert len(pixels_of((tmp_path / "a.png").read_bytes())) == 1
    assert run("decode", "wide", tmp_path / "z.npy", "--bands", "1,2,3,4", "-o", f"{tmp_path}/folder/")[0] == 0
    assert [len(pixels_of(path.read_bytes())) for path in (tmp_path / "folder").iterdir()] == [4] * 5


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "wide"),
        ("traverse", "wide", "--axis", "0:0:1:2"),
        ("interpolate", "wide", "--from-seed=1", "--to-seed=2"),
    ],
)
def test_the_command_draws_no_picture_of_thirteen_channels(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    code, _, err = run(*words, "-o", tmp_path / "a.png")
    told = "pictures hold 1, 3 or 4 channels and the model's images 13; name some by --bands, or write a .npy array"
    assert (code, err, list(tmp_path.iterdir())) == (2, f"latentserve: {told}\n", [])
