"""Comparisons of two versions from the command line, on a real server."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from client.served_linear import MODELS, noise

Run = Callable[..., tuple[int, str, str]]


def test_a_version_does_not_differ_from_itself(run: Run) -> None:
    code, out, err = run("compare", "linear@stable", "linear:1", "--count", 10, "--threshold", 1e-6)
    assert (code, err) == (0, "")
    facts = dict(line.split("  ", 1) for line in out.splitlines())
    assert facts["versions"].strip() == "linear:1 and linear:1"
    assert facts["images"].strip() == "10, seed 0"
    assert facts["mean difference"].strip().startswith("0.000000")
    assert facts["ELBO shift"].strip().endswith("0.0000 nats, on images of linear:1")
    assert facts["threshold"].strip() == "1e-06: within it"


def test_other_weights_are_a_difference(run: Run) -> None:
    code, out, _ = run("compare", "linear:1", "linear:2", "--count", 20, "--seed", 3, "--threshold", 0.01)
    assert code == 3
    assert "0.01: beyond it" in out
    latents = noise(3, 0, 20)
    difference = np.abs(MODELS[1].images(latents) - MODELS[2].images(latents))
    facts = dict(line.split("  ", 1) for line in out.splitlines())
    assert abs(float(facts["mean difference"].split(",")[0]) - difference.mean()) < 1e-5
    worst = difference.reshape(20, -1).max(axis=1)
    assert f", at index {worst.argmax()}" in out
    assert run("compare", "linear:1", "linear:2", "--count", 5)[0] == 0
