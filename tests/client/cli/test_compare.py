"""A comparison whose server changes its numerics on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., tuple[int, str, str]]


def test_numerics_that_change_under_a_comparison_are_said(run: Run, faults: list[Any]) -> None:
    def change(response: Any) -> None:
        response.served.numerics = "0ddba110ddba110d"

    faults.extend([None, None, (1, change)])  # after both descriptions, the second chunk of the first stream
    code, out, err = run("compare", "linear:1", "linear:1", "--count", 24, "--threshold", 0)
    assert (code, err) == (0, "")
    (said,) = [line for line in out.splitlines() if line.startswith("numerics changed")]
    assert "linear:1 at index 8, 00c0ffee00c0ffee to 0ddba110ddba110d; 1 more" in said
