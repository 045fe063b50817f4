"""What is tried to know whether a row has the same bits in every batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from latentserve.row_bits import TRIAL_ROWS, Arrays, batch_dependence, more_rows


@given(
    count=st.integers(1, 70),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    bounds=st.sampled_from([(0.0, 1.0), (-4.0, 4.0)]),
)
def test_many_rows_made_of_a_few_are_all_different_and_within_their_bounds(
    count: int, shape: list[int], bounds: tuple[float, float]
) -> None:
    few = np.random.default_rng(count).uniform(*bounds, (count, *shape)).astype(np.float32)
    labels = np.arange(count, dtype=np.int64)
    many = more_rows({"image": few, "label": labels})
    images = many["image"]
    assert (images.shape, images.dtype) == ((TRIAL_ROWS, *shape), np.float32)
    assert len({row.tobytes() for row in images}) == TRIAL_ROWS
    assert bounds[0] <= images.min() <= images.max() <= bounds[1]
    np.testing.assert_array_equal(many["label"], labels[np.arange(TRIAL_ROWS) % count])
    kept = min(count, TRIAL_ROWS)
    np.testing.assert_array_equal(images[:kept], few[:kept])


def test_codes_stay_codes_and_meet_each_other_at_other_places() -> None:
    few = np.random.default_rng(0).integers(0, 5, (3, 2, 3))
    many = more_rows({"codes": few})["codes"]
    assert (many.shape, many.dtype) == ((TRIAL_ROWS, 2, 3), np.int64)
    np.testing.assert_array_equal(many[:3], few)
    np.testing.assert_array_equal(np.sort(many.reshape(TRIAL_ROWS, -1)), np.sort(few.reshape(3, -1))[np.arange(64) % 3])
    assert len({row.tobytes() for row in many}) > 3


def tail_of(vector: int, share: float) -> Any:
    """A graph that adds a last bit to what is left at the end of its tensor, in some rows."""

    def run(rows: Arrays) -> dict[str, NDArray[Any]]:
        flat = rows["x"].ravel().copy()
        left = slice(len(flat) - len(flat) % vector, None)
        flat[left] = np.where(flat[left] < share, np.nextafter(flat[left], np.float32(2)), flat[left])
        return {"same": rows["x"], "y": flat.reshape(rows["x"].shape)}

    return run


ROWS = {"x": np.random.default_rng(0).random((TRIAL_ROWS, 5), np.float32)}


@pytest.mark.parametrize(
    ("vector", "batches", "found"),
    [
        (1, (1, 2, 3, 64), ""),
        (4, (1, 2, 3, 64), "'y' in a batch of 3"),
        (4, (1, 2, 64), "'y' in a batch of 2"),
        (4, (1, 64), "'y' in a batch of 1"),
        (4, (64,), ""),
        (4, (4, 8), ""),
        (5, (1, 2, 3, 64), ""),
        (8, (1, 2, 3, 48), "'y' in a batch of 3"),
    ],
)
def test_a_row_that_depends_on_where_its_tensor_ends_is_found(
    vector: int, batches: tuple[int, ...], found: str
) -> None:
    assert batch_dependence(tail_of(vector, 0.5), ROWS, batches) == found


def test_a_difference_in_few_rows_is_found() -> None:
    assert batch_dependence(tail_of(4, 0.05), ROWS) == "'y' in a batch of 3"
