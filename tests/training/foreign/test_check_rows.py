"""How many rows an import is checked with, by what a row takes, and what it says of few."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from latentserve_training.foreign.check_rows import rows_to_check


@pytest.mark.parametrize(
    ("row_seconds", "rows"), [(1e-4, 64), (0.1, 64), (0.5, 15), (1.0, 7), (3.0, 2), (20.0, 2), (1000.0, 2)]
)
def test_what_takes_long_is_checked_with_few_rows(row_seconds: float, rows: int) -> None:
    ran: list[int] = []

    def run(count: int) -> float:
        ran.append(count)
        return count * row_seconds

    assert rows_to_check(run, 64) == rows
    assert sum(ran) <= 2 * rows, "and finding out takes less than that"


def test_a_first_run_that_takes_longer_than_the_others_is_outweighed() -> None:
    seconds: Iterator[float] = iter([0.9, 0.01, 0.02])
    assert rows_to_check(lambda _: next(seconds), 64) == 64


def test_no_more_rows_are_checked_than_there_are() -> None:
    assert rows_to_check(lambda rows: 1e-3 * rows, 2) == 2
    assert rows_to_check(lambda rows: 1e-3 * rows, 3) == 3
