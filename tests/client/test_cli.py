"""The command line, from arguments to files."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latentserve_client import Client
from latentserve_client.cli.grid import draw_grid, draw_pairs

Run = Callable[..., tuple[int, str, str]]
COMMAND = Path(sys.executable).with_name("latentserve")
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


def test_models_are_a_table(run: Run) -> None:
    assert run("models") == (
        0,
        "NAME    VERSION  STATE        DEFAULT  ALIASES  CAPABILITIES                            MEMORY   REASON\n"
        "linear  1        ready        -        stable   sample,encode,decode,reconstruct,score  1.5 MiB  -\n"
        "linear  2        ready        yes      -        sample,encode,decode,reconstruct,score  3.0 MiB  -\n"
        "linear  3        unavailable  -        -        -                                       -        wrong "
        "digest\n",
        "",
    )


def test_a_model_is_described(run: Run) -> None:
    code, out, err = run("model", "linear@stable")
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    assert (code, err) == (0, "")
    assert (facts["model"], facts["aliases"], facts["kind"], facts["device"]) == ("linear:1", "stable", "vae", "cpu")
    assert facts["precision"] == "int8"
    assert facts["numerics"] == "00c0ffee00c0ffee"
    assert "none promised: the last bits of a row depend on its batch" in run("model", "linear:2")[1]
    assert (facts["image"], facts["latent"]) == ("3 x 4 x 6, values 0 to 1", "5 dimensions")
    assert facts["test_nats"] == "12.5"


def test_a_sample_is_a_grid(run: Run, target: str, tmp_path: Path) -> None:
    output = tmp_path / "grid.png"
    code, out, err = run("sample", "linear:1", "--count", 6, "--seed", 7, "-o", output)
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{output}: 6 images, seed 7, model linear:1, {SECONDS}", out)
    with Client(target) as client:
        expected = draw_grid(client.sample("linear:1", 6, seed=7, format="uint8").images)
    np.testing.assert_array_equal(np.asarray(Image.open(output)), np.asarray(expected))
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_a_large_sample_is_a_stream(
    run: Run, target: str, tmp_path: Path, attempts: list[tuple[str, str, Any]]
) -> None:
    output = tmp_path / "samples.npy"
    code, out, _ = run("sample", "linear", "--count", 20, "--seed", 3, "--first-index", 5, "-o", output)
    assert code == 0
    assert "20 images, seed 3 from index 5, model linear:2" in out
    ((_, _, request),) = [attempt for attempt in attempts if attempt[0] == "StreamSamples"]
    assert (request.first_index, request.count, request.model.version) == (5, 20, 2)
    array = np.load(output)
    assert (array.dtype, array.shape) == (np.float32, (20, 3, 4, 6))
    with Client(target) as client:
        np.testing.assert_array_equal(array[8:16], client.sample("linear", 8, seed=3, first_index=13).images)
    assert list(tmp_path.iterdir()) == [output]


def test_a_sample_without_a_seed_can_be_drawn_again(run: Run, tmp_path: Path) -> None:
    _, out, _ = run("sample", "linear", "--count", 12, "-o", tmp_path / "a.npy")
    seed = re.search(r"seed (\d+)", out)
    assert seed is not None
    assert int(seed[1]) < 2**53
    run("sample", "linear", "--count", 12, "--seed", seed[1], "-o", tmp_path / "b.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


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


def test_a_failure_halfway_keeps_the_old_file(run: Run, tmp_path: Path, faults: list[Any]) -> None:
    output = tmp_path / "grid.png"
    output.write_bytes(b"old")
    faults.extend([None, (2, grpc.StatusCode.INTERNAL)])
    code, _, err = run("sample", "linear", "--count", 20, "-o", output)
    assert (code, "told to say INTERNAL [StreamSamples: INTERNAL" in err) == (1, True)
    assert output.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [output]


def test_an_interrupt_ends_with_130(target: str, tmp_path: Path, faults: list[Any], stalled: queue.Queue[str]) -> None:
    faults.extend([None, "stall"])
    argv = [str(COMMAND), "--server", target, "sample", "linear", "-o", str(tmp_path / "grid.png")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        stalled.get(timeout=30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "latentserve: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_sees_the_progress(target: str, tmp_path: Path) -> None:
    terminal, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    argv = [str(COMMAND), "--server", target, "sample", "linear", "--count", "20", "-o", str(tmp_path / "grid.png")]
    subprocess.run(argv, stderr=theirs, stdout=subprocess.DEVNULL, check=True)
    os.close(theirs)
    shown = os.read(terminal, 4000).decode()
    os.close(terminal)
    assert [f"{done}/20" in shown for done in (4, 8, 12, 16)] == [True] * 4
    assert shown.rpartition("20/20")[2].split("\r")[1:] == [" " * len(shown.split("\r")[1]), ""]  # nothing is left
