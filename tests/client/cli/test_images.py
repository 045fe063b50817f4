"""Images and latents from files to files, from the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latentserve_client import Client
from latentserve_client.cli.output import draw_grid, draw_pairs

Run = Callable[..., tuple[int, str, str]]
SECONDS = r"\d+\.\d\d s\n"


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (10, 3, 4, 6), np.uint8)


@pytest.fixture
def pictures(tmp_path: Path, pixels: NDArray[np.uint8]) -> list[Path]:
    """The same images as PNG files, more of them than one call takes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / f"{index}.png" for index in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return paths


def test_images_become_latents_and_images_again(
    run: Run, target: str, tmp_path: Path, pictures: list[Path], pixels: NDArray[np.uint8]
) -> None:
    code, out, err = run("encode", "linear", *pictures, "-o", tmp_path / "z.npy")
    assert (code, err) == (0, "")
    assert re.search(rf"z.npy: 10 latents of 5 dimensions, posterior means, model linear:2, {SECONDS}", out)
    latents = np.load(tmp_path / "z.npy")
    np.testing.assert_allclose(latents, pixels.reshape(10, -1)[:, :5] / 255, rtol=1e-6)

    code, out, err = run("decode", "linear", tmp_path / "z.npy", "-o", tmp_path / "grid.PNG")
    assert (code, err) == (0, "")
    assert "10 images, latents of" in out
    with Client(target) as client:
        parts = [client.decode("linear", latents[start : start + 5], format="uint8").images for start in (0, 5)]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "grid.PNG")), draw_grid(np.concatenate(parts)))


def test_draws_do_not_depend_on_the_cut(run: Run, target: str, tmp_path: Path, pictures: list[Path]) -> None:
    code, out, _ = run("encode", "linear", *pictures, "--draw-seed", 4, "--first-index", 2, "-o", tmp_path / "z.npy")
    assert (code, "drawn with seed 4" in out) == (0, True)
    files = [path.read_bytes() for path in pictures[8:]]
    with Client(target) as client:
        tail = client.encode("linear", files, draw_seed=4, first_index=10).z
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy")[8:], tail)


def test_reconstructions_stand_below_their_originals(
    run: Run, target: str, tmp_path: Path, pictures: list[Path], pixels: NDArray[np.uint8]
) -> None:
    code, out, err = run("reconstruct", "linear", *pictures, "-o", tmp_path / "pairs.png")
    assert (code, err) == (0, "")
    with Client(target) as client:
        parts = [client.reconstruct("linear", pixels[start : start + 5], format="uint8") for start in (0, 5)]
    error = np.concatenate([part.reconstruction_error for part in parts]).mean()
    kl = np.concatenate([part.kl for part in parts]).mean()
    assert f"10 reconstructions, mean error {error:.1f} nats, mean KL {kl:.1f} nats, model linear:2" in out
    expected = draw_pairs(pixels, np.concatenate([part.images for part in parts]))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "pairs.png")), np.asarray(expected))
