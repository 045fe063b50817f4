"""Walks, scores and comparisons from the command line."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentserve_client import Axis, Client, Seeds
from latentserve_client.cli.grid import draw_grid

Run = Callable[..., tuple[int, str, str]]
Misuse = Callable[[list[str]], str]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Ten image files, of which the last is larger than the model's images."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(10)]
    for path in paths:
        shape = (4, 6, 3) if path != paths[-1] else (8, 9, 3)
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(path)
    return paths


def test_each_way_is_a_row(run: Run, target: str, tmp_path: Path) -> None:
    pairs = ("--from-seed", 1, "--to-seed", 2, "--from-seed", 3, "--to-seed", 4)
    code, out, err = run("interpolate", "linear", *pairs, "--steps", 3, "--spherical", "-o", tmp_path / "strip.png")
    assert (code, err) == (0, "")
    assert "6 images, spherical, seeds 1 to 2, 3 to 4, model linear:2" in out
    with Client(target) as client:
        walk = client.interpolate("linear", Seeds([1, 3]), Seeds([2, 4]), 3, spherical=True, format="uint8")
    expected = np.asarray(draw_grid(walk.images, columns=3))
    assert expected.shape == (2 + 2 * (4 + 2), 2 + 3 * (6 + 2), 3)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "strip.png")), expected)


def test_two_axes_are_a_plane(run: Run, target: str, tmp_path: Path) -> None:
    axes = ("--axis", "0:-3:3:2", "--axis", "4:0:1:3")
    code, out, err = run("traverse", "linear", *axes, "--origin-seed", 9, "-o", tmp_path / "plane.npy")
    assert (code, err) == (0, "")
    assert "6 images, dimension 0 from -3 to 3 by dimension 4 from 0 to 1, model linear:2" in out
    with Client(target) as client:
        walk = client.traverse("linear", [Axis(0, -3, 3, 2), Axis(4, 0, 1, 3)], origin=Seeds([9]))
    np.testing.assert_array_equal(np.load(tmp_path / "plane.npy"), walk.images)
    run("traverse", "linear", *axes, "-o", tmp_path / "plane.png")
    assert np.asarray(Image.open(tmp_path / "plane.png")).shape == (2 + 2 * (4 + 2), 2 + 3 * (6 + 2), 3)


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


def test_a_version_does_not_differ_from_itself(run: Run) -> None:
    code, out, err = run("compare", "linear@stable", "linear:1", "--count", 10, "--threshold", 0)
    assert (code, err) == (0, "")
    facts = dict(line.split("  ", 1) for line in out.splitlines())
    assert facts["versions"].strip() == "linear:1 and linear:1"
    assert facts["images"].strip() == "10, seed 0"
    assert facts["mean difference"].strip().startswith("0.000000")
    assert facts["ELBO shift"].strip() == "+0.0000 nats, on images of linear:1"
    assert facts["threshold"].strip() == "0: within it"


def test_numerics_that_change_under_a_comparison_are_said(run: Run, faults: list[Any]) -> None:
    def change(response: Any) -> None:
        response.served.numerics = "0ddba110ddba110d"

    faults.extend([None, None, (1, change)])  # after both descriptions, the second chunk of the first stream
    code, out, err = run("compare", "linear:1", "linear:1", "--count", 24, "--threshold", 0)
    assert (code, err) == (0, "")
    (said,) = [line for line in out.splitlines() if line.startswith("numerics changed")]
    assert "linear:1 at index 8, 00c0ffee00c0ffee to 0ddba110ddba110d; 1 more" in said


def test_other_weights_are_a_difference(run: Run, target: str) -> None:
    code, out, _ = run("compare", "linear:1", "linear:2", "--count", 20, "--seed", 3, "--threshold", 0.01)
    assert code == 3
    assert "0.01: beyond it" in out
    with Client(target) as client:
        parts = [(start, 5) for start in (0, 5, 10, 15)]
        one, other = (
            np.concatenate([client.sample(ref, rows, seed=3, first_index=start).images for start, rows in parts])
            for ref in ("linear:1", "linear:2")
        )
        shifts = [
            client.score("linear:2", one[start : start + rows]).elbo.astype(float)
            - client.score("linear:1", one[start : start + rows]).elbo
            for start, rows in parts
        ]
    difference = np.abs(one.astype(float) - other)
    assert f"{difference.mean():.6f}, of pixel values 0 to 1" in out
    worst = difference.reshape(20, -1).max(axis=1)
    assert f"{worst.max():.6f}, at index {worst.argmax()}" in out
    assert f"{np.concatenate(shifts).mean():+.4f} nats, on images of linear:1" in out
    assert run("compare", "linear:1", "linear:2", "--count", 5)[0] == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["interpolate", "linear", "--from-seed", "1", "--to-seed", "2", "--to-seed", "3", "-o", "a.png"],
            "as many of",
        ),
        (["interpolate", "linear", "--from-seed", "1", "-o", "a.png"], "required: --to-seed"),
        (["traverse", "linear", "--axis", "0:-3:3", "-o", "a.png"], "'0:-3:3' is not DIMENSION:LOW:HIGH:STEPS"),
        (["traverse", "linear", "--axis", "0:a:3:2", "-o", "a.png"], "'a' is not a finite number"),
        (["traverse", "linear", "--axis", "0:0:3:1", "-o", "a.png"], "'1' is not an integer from 2"),
        (["traverse", "linear", *["--axis", "0:0:3:2"] * 3, "-o", "a.png"], "give one --axis or two"),
        (["sample", "linear", "--temperature", "5", "-o", "a.png"], "'5' is not a number from 0 to 4"),
        (["sample", "linear", "-o", "folder"], "'folder' does not end in .png or .jpg or .jpeg or .webp or .npy or /"),
        (["reconstruct", "linear", "a.png", "-o", "folder/"], "'folder/' does not end in .png"),
        (["compare", "linear", "linear", "--threshold", "-1"], "'-1' is not a number of at least 0"),
    ],
)
def test_wrong_usage_ends_with_2(misuse: Misuse, argv: list[str], message: str) -> None:
    assert message in misuse(argv)
