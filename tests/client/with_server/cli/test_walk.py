"""Walks through the latent space from the command line, on a real server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from client.served_linear import MODELS, noise
from PIL import Image

from latentserve_client import Client, Seeds
from latentserve_client.cli.output import draw_grid

Run = Callable[..., tuple[int, str, str]]


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


def test_two_axes_are_a_plane(run: Run, tmp_path: Path) -> None:
    axes = ("--axis", "0:-3:3:2", "--axis", "4:0:1:3")
    code, out, err = run("traverse", "linear", *axes, "--origin-seed", 9, "-o", tmp_path / "plane.npy")
    assert (code, err) == (0, "")
    assert "6 images, dimension 0 from -3 to 3 by dimension 4 from 0 to 1, model linear:2" in out
    latents = np.repeat(noise(9, 0, 1), 6, axis=0)
    latents[:, 0], latents[:, 4] = [-3] * 3 + [3] * 3, [0, 0.5, 1] * 2
    np.testing.assert_allclose(np.load(tmp_path / "plane.npy"), MODELS[2].images(latents), atol=1e-5)
    run("traverse", "linear", *axes, "-o", tmp_path / "plane.png")
    assert np.asarray(Image.open(tmp_path / "plane.png")).shape == (2 + 2 * (4 + 2), 2 + 3 * (6 + 2), 3)
