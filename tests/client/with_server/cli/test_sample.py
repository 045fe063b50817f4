"""Samples from the command line, in every form and number, on a real server."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from client.served_linear import MODELS, SHAPE, noise, to_uint8
from PIL import Image

from latentserve_client import Client
from latentserve_client.cli.output import draw_grid

Run = Callable[..., tuple[int, str, str]]
COMMAND = Path(sys.executable).with_name("latentserve")
SECONDS = r"\d+\.\d\d s\n"
DRAWN = MODELS[2].images(noise(7, 0, 20))
"""The first 20 images of seed 7."""
SIX = ("sample", "linear", "--count", 6, "--seed", 7)


def piped(target: str, *words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([COMMAND, "--server", target, *map(str, words)], capture_output=True, check=True, timeout=60)


@pytest.mark.parametrize("count", [6, 20])
def test_a_folder_has_a_file_an_image(run: Run, tmp_path: Path, count: int) -> None:
    code, out, err = run("sample", "linear", "--count", count, "--seed", 7, "-o", f"{tmp_path}/pictures/")
    assert (code, err) == (0, "")
    assert re.match(rf"{tmp_path}/pictures: {count} images, seed 7, model linear:2", out)
    paths = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in paths] == [f"{index:09d}.png" for index in range(count)]
    pixels = [np.asarray(Image.open(path)).transpose(2, 0, 1) for path in paths]
    np.testing.assert_allclose(pixels, to_uint8(DRAWN[:count]), atol=1)


@pytest.mark.parametrize("count", [8, 20])
def test_shaping_reaches_the_noise(run: Run, tmp_path: Path, count: int) -> None:
    how = ("--temperature", 0, "--truncation", "0.5")
    run("sample", "linear", "--count", count, *how, "-o", tmp_path / "a.npy")
    expected = np.repeat(MODELS[2].images(np.zeros((1, 5))), count, axis=0)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), expected, atol=1e-5)


def test_a_sample_is_a_grid(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "grid.png"
    code, out, err = run("sample", "linear:1", "--count", 6, "--seed", 7, "-o", output)
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{output}: 6 images, seed 7, model linear:1, {SECONDS}", out)
    expected = np.asarray(draw_grid(to_uint8(MODELS[1].images(noise(7, 0, 6)))))
    np.testing.assert_allclose(np.asarray(Image.open(output)), expected, atol=1)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_a_large_sample_is_one_array(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "samples.npy"
    code, out, _ = run("sample", "linear", "--count", 15, "--seed", 7, "--first-index", 5, "-o", output)
    assert code == 0
    assert "15 images, seed 7 from index 5, model linear:2" in out
    array = np.load(output)
    assert (array.dtype, array.shape) == (np.float32, (15, *SHAPE))
    np.testing.assert_allclose(array, DRAWN[5:], atol=1e-5)
    assert list(tmp_path.iterdir()) == [output]


def test_a_sample_without_a_seed_can_be_drawn_again(run: Run, tmp_path: Path) -> None:
    _, out, _ = run("sample", "linear", "--count", 12, "-o", tmp_path / "a.npy")
    seed = re.search(r"seed (\d+)", out)
    assert seed is not None
    run("sample", "linear", "--count", 12, "--seed", seed[1], "-o", tmp_path / "b.npy")
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")]
)
def test_a_picture_has_the_format_of_its_name(run: Run, tmp_path: Path, name: str, kind: str) -> None:
    assert run(*SIX, "-o", tmp_path / name)[0] == 0
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
        off = np.abs(np.asarray(picture).astype(int) - np.asarray(draw_grid(to_uint8(DRAWN[:6]))))
    assert off.mean() <= (16 if kind == "JPEG" else 1)


@pytest.mark.parametrize(("form", "ending"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
@pytest.mark.parametrize("count", [6, 12])
def test_a_folder_of_samples_has_the_format_that_was_asked_for(
    run: Run, target: str, tmp_path: Path, form: str, ending: str, count: int
) -> None:
    run("sample", "linear", "--count", count, "--seed", 7, "--format", form, "-o", f"{tmp_path}/")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{index:09d}.{ending}" for index in range(count)]
    with Client(target) as client:
        files = client.sample("linear", 6, seed=7, format=form).files  # type: ignore[arg-type]
    found, expected = (
        np.asarray(Image.open(io.BytesIO(file))).astype(int)
        for file in ((tmp_path / f"000000005.{ending}").read_bytes(), files[5])
    )
    assert np.abs(found - expected).mean() <= 1


@pytest.mark.parametrize("count", [6, 20])
def test_samples_go_down_a_pipe(target: str, count: int) -> None:
    array = piped(target, "sample", "linear", "--count", count, "--seed", 7, "--format", "npy", "-o", "-")
    drawn = np.load(io.BytesIO(array.stdout))
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn, DRAWN[:count], atol=1e-5)
    assert array.stderr.startswith(f"standard output: {count} images, seed 7, model linear:2".encode())


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_picture_goes_down_a_pipe(target: str, tmp_path: Path, form: str) -> None:
    picture = piped(target, *SIX, *(() if form == "png" else ("--format", form)), "-o", "-")
    piped(target, *SIX, "-o", tmp_path / f"a.{form}")
    assert picture.stdout == (tmp_path / f"a.{form}").read_bytes()


def test_latents_go_down_a_pipe(target: str, run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (6, 4), "teal").save(tmp_path / "a.png")
    latents = piped(target, "encode", "linear", tmp_path / "a.png", "-o", "-")
    run("encode", "linear", tmp_path / "a.png", "-o", tmp_path / "z.npy")
    assert latents.stdout == (tmp_path / "z.npy").read_bytes()
