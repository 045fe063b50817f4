"""Walks through the latent space from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentserve_client import Axis, Client, Seeds
from latentserve_client.cli.output import draw_grid

Run = Callable[..., tuple[int, str, str]]
Misuse = Callable[[list[str]], str]


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
