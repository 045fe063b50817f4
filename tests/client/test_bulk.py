"""How a job is cut into calls."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from latentserve_client.bulk import split


@given(st.lists(st.integers(0, 50)), st.integers(1, 10), st.integers(1, 100))
def test_a_job_is_cut_once_over_and_within_bounds(sizes: list[int], max_rows: int, max_bytes: int) -> None:
    parts = list(split(sizes, max_rows, max_bytes))
    assert [row for part in parts for row in part] == list(range(len(sizes)))
    for part in parts:
        assert 1 <= len(part) <= max_rows
        assert len(part) == 1 or sum(sizes[row] for row in part) <= max_bytes
    for part, following in pairwise(parts):
        joined = sum(sizes[row] for row in part) + sizes[following.start]
        assert len(part) == max_rows or joined > max_bytes


def test_rows_too_large_for_any_call_go_alone() -> None:
    assert list(split([5, 200, 200, 5], 10, 100)) == [range(1), range(1, 2), range(2, 3), range(3, 4)]
