"""What the commands ask for, and that each writes what is replied."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]
Attempts = list[tuple[str, str, Any]]
WALK = ("--from-seed", 1, "--to-seed", 2, "--steps", 3)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Ten image files, more than a call takes."""
    paths = [tmp_path / f"{index}.png" for index in range(10)]
    for index, path in enumerate(paths):
        Image.new("RGB", (6, 4), (index, 0, 0)).save(path)
    return paths


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    """Ten latents."""
    np.save(tmp_path / "latents.npy", np.zeros((10, 5), np.float32))
    return tmp_path / "latents.npy"


@pytest.mark.parametrize("words", [("sample", 20), ("decode", 10), ("interpolate", 3), ("traverse", 4)])
@pytest.mark.parametrize("ending", ["npy", "png"])
def test_images_are_written(run: Run, tmp_path: Path, latents: Path, words: tuple[str, int], ending: str) -> None:
    command, count = words
    given: dict[str, tuple[object, ...]] = {
        "sample": ("--count", 20, "--seed", 0),
        "decode": (latents,),
        "interpolate": WALK,
        "traverse": ("--axis", "0:-1:1:4"),
    }
    output = tmp_path / f"out.{ending}"
    code, out, err = run(command, "linear", *given[command], "-o", output)
    assert (code, err) == (0, "")
    assert f"{count} images" in out
    if ending == "npy":
        levels = np.load(output)[:, 0, 0, 0] * 255
        row_in_its_call = np.arange(count) if command == "sample" else np.arange(count) % 8
        np.testing.assert_allclose(levels, row_in_its_call, atol=1e-4)
    else:
        assert np.asarray(Image.open(output)).shape[2] == 3


def test_pictures_are_sent_as_they_are_and_some_at_a_time(
    run: Run, tmp_path: Path, pictures: list[Path], attempts: Attempts
) -> None:
    assert run("encode", "linear", *pictures, "--draw-seed", 4, "--first-index", 2, "-o", tmp_path / "z.npy")[0] == 0
    assert np.load(tmp_path / "z.npy").shape == (10, 5)
    requests = [request for method, _, request in attempts if method == "Encode"]
    assert [file for request in requests for file in request.images.encoded.files] == [
        path.read_bytes() for path in pictures
    ]
    sent = [len(request.images.encoded.files) for request in requests]
    assert max(sent) <= 8
    firsts = [request.draw.first_index for request in requests]
    assert firsts == [2 + sum(sent[:number]) for number in range(len(sent))]


def test_reconstructions_have_their_mean_costs(run: Run, tmp_path: Path, pictures: list[Path]) -> None:
    code, out, err = run("reconstruct", "linear", *pictures, "-o", tmp_path / "pairs.png")
    assert (code, err) == (0, "")
    assert "10 reconstructions, mean error 1.5 nats, mean KL 1.5 nats, model linear:2" in out


def test_scores_are_asked_for_in_calls_that_the_server_takes(
    run: Run, pictures: list[Path], attempts: Attempts
) -> None:
    Image.new("RGB", (9, 8)).save(pictures[9])
    code, out, err = run("score", "linear", *pictures, "--draws", 2, "--seed", 5, "--resize", "--csv")
    assert (code, err) == (0, "")
    requests = [request for method, _, request in attempts if method == "Score"]
    assert [len(request.images.encoded.files) for request in requests] == [4, 4, 2]
    assert [request.first_index for request in requests] == [0, 4, 8]
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["image"] for row in rows] == [str(path) for path in pictures]
    assert {float(row["importance_bound"]) for row in rows} == {-2.0}
