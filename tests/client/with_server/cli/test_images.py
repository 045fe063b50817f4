"""Images and latents from files to files, from the command line, on a real server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from client.served_linear import MODELS, SHAPE, noise, pictures, to_uint8
from PIL import Image

from latentserve_client.cli.output import draw_grid, draw_pairs

Run = Callable[..., tuple[int, str, str]]
MODEL = MODELS[2]
PIXELS = pictures(10)
SECONDS = r"\d+\.\d\d s\n"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The same images as PNG files, more of them than one call takes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / f"{index}.png" for index in range(len(PIXELS))]
    for path, image in zip(paths, PIXELS, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return paths


def test_images_become_latents_and_images_again(run: Run, tmp_path: Path, files: list[Path]) -> None:
    code, out, err = run("encode", "linear", *files, "-o", tmp_path / "z.npy")
    assert (code, err) == (0, "")
    assert re.search(rf"z.npy: 10 latents of 5 dimensions, posterior means, model linear:2, {SECONDS}", out)
    mean, _ = MODEL.posterior(PIXELS / 255)
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), mean, atol=1e-5)

    code, out, err = run("decode", "linear", tmp_path / "z.npy", "-o", tmp_path / "grid.PNG")
    assert (code, err) == (0, "")
    assert "10 images, latents of" in out
    expected = np.asarray(draw_grid(to_uint8(MODEL.images(mean))))
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "grid.PNG")), expected, atol=1)


def test_draws_do_not_depend_on_the_cut(run: Run, tmp_path: Path, files: list[Path]) -> None:
    code, out, _ = run("encode", "linear", *files, "--draw-seed", 4, "--first-index", 2, "-o", tmp_path / "z.npy")
    assert (code, "drawn with seed 4" in out) == (0, True)
    mean, log_variance = MODEL.posterior(PIXELS / 255)
    expected = mean + np.exp(log_variance / 2) * noise(4, 2, 10, stream=1)
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), expected, atol=1e-5)


def test_reconstructions_stand_below_their_originals(run: Run, tmp_path: Path, files: list[Path]) -> None:
    code, out, err = run("reconstruct", "linear", *files, "-o", tmp_path / "pairs.png")
    assert (code, err) == (0, "")
    mean, log_variance = MODEL.posterior(PIXELS / 255)
    x, p = PIXELS / 255, MODEL.images(mean)
    error = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=(1, 2, 3))
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(axis=1)
    told = re.search(r"10 reconstructions, mean error ([\d.]+) nats, mean KL ([\d.]+) nats, model linear:2", out)
    assert told is not None
    np.testing.assert_allclose([float(told[1]), float(told[2])], [error.mean(), kl.mean()], atol=0.051)
    expected = np.asarray(draw_pairs(PIXELS, to_uint8(p)))
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "pairs.png")), expected, atol=1)


def test_latents_become_a_folder_and_a_folder_becomes_latents(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.random.default_rng(1).normal(size=(10, 5)).astype(np.float32))
    code, out, err = run("decode", "linear", tmp_path / "z.npy", "-o", f"{tmp_path}/images/")
    assert (code, err, "10 images" in out) == (0, "", True)
    images = sorted((tmp_path / "images").iterdir())
    assert [path.name for path in images] == [f"{index:09d}.png" for index in range(10)]
    shutil.copy(images[0], tmp_path / "images" / "._copy.png")
    (tmp_path / "images" / "notes.txt").touch()
    run("encode", "linear", *images, "-o", tmp_path / "files.npy")
    code, out, _ = run("encode", "linear", tmp_path / "images", "-o", tmp_path / "folder.npy")
    assert (code, "10 latents" in out) == (0, True)
    np.testing.assert_array_equal(np.load(tmp_path / "folder.npy"), np.load(tmp_path / "files.npy"))
    _, out, _ = run("score", "linear", tmp_path / "images", "--csv")
    assert [line.split(",")[0] for line in out.splitlines()[1:]] == [str(path) for path in images]


def test_images_of_other_sizes_are_resized_where_asked(run: Run, tmp_path: Path, files: list[Path]) -> None:
    Image.new("RGB", (9, 8)).save(files[9])
    code, _, err = run("reconstruct", "linear", *files, "-o", tmp_path / "pairs.png")
    assert (code, "9.png: 8 x 9 pixels; the model takes 4 x 6" in err) == (1, True)
    assert run("reconstruct", "linear", *files, "--resize", "-o", tmp_path / "pairs.png")[0] == 0
    assert run("encode", "linear", *files, "--resize", "-o", tmp_path / "z.npy")[0] == 0
    black, _ = MODEL.posterior(np.zeros((1, *SHAPE)))
    np.testing.assert_allclose(np.load(tmp_path / "z.npy")[9:], black, atol=1e-5)
