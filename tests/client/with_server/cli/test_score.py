"""Scores of image files from the command line, on a real server."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from client.served_linear import pictures
from PIL import Image

from latentserve_client import Client

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Ten image files, more than a call takes."""
    paths = [tmp_path / f"{index}.png" for index in range(10)]
    for path, image in zip(paths, pictures(10), strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
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


def test_scores_do_not_depend_on_the_cut(run: Run, target: str, images: list[Path]) -> None:
    code, out, err = run("score", "linear", *images, "--draws", 2, "--seed", 5, "--csv")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["image"] for row in rows] == [str(path) for path in images]
    files = [path.read_bytes() for path in images[3:6]]
    with Client(target) as client:
        part = client.score("linear", files, draws=2, seed=5, first_index=3)
    found = [float(row["importance_bound"]) for row in rows[3:6]]
    np.testing.assert_allclose(found, part.importance_bound, rtol=1e-5)
