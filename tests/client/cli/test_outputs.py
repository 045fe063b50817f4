"""Pictures of every format, folders and standard output of the command line."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latentserve_client import Client
from latentserve_client.cli.output import draw_grid

Run = Callable[..., tuple[int, str, str]]
COMMAND = Path(sys.executable).with_name("latentserve")
SAMPLE = ("sample", "linear", "--count", "6", "--seed", "7")


@pytest.fixture
def drawn(target: str) -> NDArray[np.float32]:
    """What SAMPLE draws."""
    with Client(target) as client:
        return client.sample("linear", 6, seed=7).images


def pixels(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(images * 255).astype(np.uint8)


def piped(target: str, *words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([COMMAND, "--server", target, *map(str, words)], capture_output=True, check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")]
)
def test_a_picture_has_the_format_of_its_name(
    run: Run, tmp_path: Path, drawn: NDArray[np.float32], name: str, kind: str
) -> None:
    assert run(*SAMPLE, "-o", tmp_path / name)[0] == 0
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
        off = np.abs(np.asarray(picture).astype(int) - np.asarray(draw_grid(pixels(drawn))))
    assert off.mean() <= (8 if kind == "JPEG" else 0)


@pytest.mark.parametrize(("form", "ending"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
@pytest.mark.parametrize("count", [6, 12])
def test_a_folder_of_samples_has_the_format_that_was_asked_for(
    run: Run, target: str, tmp_path: Path, form: str, ending: str, count: int
) -> None:
    run("sample", "linear", "--count", count, "--seed", 7, "--format", form, "-o", f"{tmp_path}/")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{index:09d}.{ending}" for index in range(count)]
    with Client(target) as client:
        files = client.sample("linear", 6, seed=7, format=form).files  # type: ignore[arg-type]
    assert (tmp_path / f"000000005.{ending}").read_bytes() == files[5]


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


@pytest.mark.parametrize("count", [6, 20])
def test_samples_go_down_a_pipe(target: str, count: int) -> None:
    array = piped(target, "sample", "linear", "--count", count, "--seed", 7, "--format", "npy", "-o", "-")
    with Client(target) as client:
        expected = client.sample("linear", 6, seed=7).images
    drawn = np.load(io.BytesIO(array.stdout))
    assert (drawn.dtype, drawn.shape) == (np.float32, (count, 3, 4, 6))
    np.testing.assert_array_equal(drawn[:6], expected)
    assert array.stderr.startswith(f"standard output: {count} images, seed 7, model linear:2".encode())


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_picture_goes_down_a_pipe(target: str, tmp_path: Path, form: str) -> None:
    picture = piped(target, *SAMPLE, *(() if form == "png" else ("--format", form)), "-o", "-")
    piped(target, *SAMPLE, "-o", tmp_path / f"a.{form}")
    assert picture.stdout == (tmp_path / f"a.{form}").read_bytes()


def test_latents_go_down_a_pipe(target: str, run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (6, 4), "teal").save(tmp_path / "a.png")
    latents = piped(target, "encode", "linear", tmp_path / "a.png", "-o", "-")
    run("encode", "linear", tmp_path / "a.png", "-o", tmp_path / "z.npy")
    assert latents.stdout == (tmp_path / "z.npy").read_bytes()


@pytest.mark.parametrize("count", ["6", "20"])
@pytest.mark.parametrize("form", ["png", "npy"])
def test_a_pipe_that_nobody_reads(target: str, count: str, form: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    argv = [COMMAND, "--server", target, "sample", "linear", "--count", count, "--format", form, "-o", "-"]
    with subprocess.Popen(argv, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        assert process.communicate(timeout=30) == (None, b"")
    assert process.returncode == 141


def test_a_full_disk_behind_a_pipe(target: str) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run([COMMAND, "--server", target, *SAMPLE, "-o", "-"], stdout=full, stderr=subprocess.PIPE)
    assert (run.returncode, run.stderr) == (1, b"latentserve: standard output: No space left on device\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-o", "a.png", "--format", "jpeg"), "output 'a.png' is png by its ending, and --format says jpeg"),
        (("-o", "folder/", "--format", "npy"), "--format npy is one array; a folder/ has a picture an image"),
        (("-o", "a.tiff"), "output 'a.tiff' does not end in .png or .jpg or .jpeg or .webp or .npy or /"),
    ],
)
def test_outputs_that_cannot_be(misuse: Callable[[list[str]], str], words: tuple[str, ...], message: str) -> None:
    assert message in misuse(["sample", "linear", *words])


def test_a_terminal_gets_no_pictures(target: str) -> None:
    terminal, theirs = os.openpty()
    run = subprocess.run([COMMAND, "--server", target, *SAMPLE, "-o", "-"], stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    os.close(terminal)
    assert (run.returncode, b"-o - is for a file or a pipe" in run.stderr) == (2, True)


@pytest.mark.parametrize(("count", "seen"), [(20, [4, 8, 12, 16]), (8, [])])
def test_a_terminal_sees_the_progress_of_a_job_of_several_calls(
    target: str, tmp_path: Path, count: int, seen: list[int]
) -> None:
    terminal, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    argv = [COMMAND, "--server", target, "sample", "linear", "--count", str(count), "-o", tmp_path / "grid.png"]
    subprocess.run(argv, stderr=theirs, stdout=subprocess.DEVNULL, check=True)
    os.write(theirs, b"end")
    output = b""
    while not output.endswith(b"end"):
        output += os.read(terminal, 4000)
    os.close(theirs)
    os.close(terminal)
    *shown, end = output.decode().split("\r")
    bars = [line for line in shown if line.strip()]
    assert [f" {done}/{count} " in bar for done, bar in zip(seen, bars, strict=True)] == [True] * len(seen)
    assert (end, "".join(shown[len(bars) + 1 :]).strip()) == ("end", "")  # the line is free again
