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


def test_maps_stand_below_their_images(run: Run, target: str, images: list[Path], tmp_path: Path) -> None:
    code, out, err = run("score", "linear", *images, "--map", tmp_path / "maps.png")
    assert (code, err) == (0, "")
    assert out == run("score", "linear", *images)[1]
    picture = np.asarray(Image.open(tmp_path / "maps.png"))
    assert picture.shape == (3 * (4 + 1 + 4 + 2) + 2, 4 * (6 + 2) + 2, 3)
    with Client(target) as client:
        scores = client.score("linear", [path.read_bytes() for path in images[:1]], map="uint8")
    assert scores.map is not None
    np.testing.assert_array_equal(picture[2:6, 2:8], np.asarray(Image.open(images[0])))
    np.testing.assert_array_equal(picture[7:11, 2:8], np.repeat(scores.map.images[0].transpose(1, 2, 0), 3, axis=2))


def test_maps_are_an_array_in_nats(run: Run, images: list[Path], tmp_path: Path) -> None:
    code, out, _ = run("score", "linear", *images, "--csv", "--map", tmp_path / "maps.npy")
    assert code == 0
    costs = [float(row["reconstruction_error"]) for row in csv.DictReader(io.StringIO(out))]
    nats = np.load(tmp_path / "maps.npy")
    assert (nats.dtype, nats.shape) == (np.dtype(np.float32), (10, 3, 4, 6))
    np.testing.assert_allclose(nats.sum(axis=(1, 2, 3)), costs, rtol=1e-4)
