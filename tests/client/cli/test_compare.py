"""Comparisons of two versions from the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from latentserve_client import Client

Run = Callable[..., tuple[int, str, str]]


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
