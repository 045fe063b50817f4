"""Scores of image files from the command line."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentserve_client import Client

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Ten image files, of which the last is larger than the model's images."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(10)]
    for path in paths:
        shape = (4, 6, 3) if path != paths[-1] else (8, 9, 3)
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(path)
    return paths


def test_scores_are_a_table(run: Run, images: list[Path]) -> None:
    code, out, err = run("score", "linear", *images[:2])
    assert (code, err) == (0, "")
    header, *lines = out.splitlines()
    assert header.split() == ["image", "(nats)", "reconstruction_error", "kl", "elbo"]
    assert [line.split()[0] for line in lines] == [str(images[0]), str(images[1]), "mean"]
    table = np.array([line.split()[1:] for line in lines], float)
    np.testing.assert_allclose(table[2], table[:2].mean(axis=0), atol=0.011)
    np.testing.assert_allclose(table[:, 2], -table[:, :2].sum(axis=1), atol=0.011)
    assert len({len(line) for line in (header, *lines)}) == 1


def test_scores_do_not_depend_on_the_cut(run: Run, target: str, images: list[Path], attempts: list[Any]) -> None:
    code, out, err = run("score", "linear", *images, "--draws", 2, "--seed", 5, "--resize", "--csv")
    assert (code, err) == (0, "")
    assert [len(request.images.encoded.files) for method, _, request in attempts if method == "Score"] == [4, 4, 2]
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["image"] for row in rows] == [str(path) for path in images]
    files = [path.read_bytes() for path in images[3:6]]
    with Client(target) as client:
        part = client.score("linear", files, draws=2, seed=5, first_index=3)
    assert part.importance_bound is not None
    np.testing.assert_array_equal(
        np.array([row["importance_bound"] for row in rows[3:6]], np.float32), part.importance_bound
    )


def test_images_of_other_sizes_are_resized_where_asked(run: Run, tmp_path: Path, images: list[Path]) -> None:
    code, _, err = run("reconstruct", "linear", *images, "-o", tmp_path / "pairs.png")
    assert (code, "9.png: 8 x 9 pixels; the model takes 4 x 6" in err) == (1, True)
    assert run("reconstruct", "linear", *images, "--resize", "-o", tmp_path / "pairs.png")[0] == 0
    assert run("encode", "linear", *images, "--resize", "-o", tmp_path / "z.npy")[0] == 0
    assert np.load(tmp_path / "z.npy").shape == (10, 5)
