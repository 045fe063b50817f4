"""Pixels beyond 0 to 1: what rounding explains is taken for the bound, what it does not is refused and told apart."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from latentserve.pixel_range import ROUNDING, PixelRangeError, clip_pixels, read_pixels

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0)
NEAR = st.floats(-ROUNDING, 1 + ROUNDING, width=32) | st.just(float("nan"))
FURTHEST = np.array([-ROUNDING, 1 + ROUNDING], np.float32)


@given(arrays.arrays(np.float32, SHAPES, elements=NEAR))
@example(FURTHEST)
def test_rounding_beyond_a_bound_is_taken_for_it(pixels: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(read_pixels(pixels), np.clip(pixels, 0, 1))
    np.testing.assert_array_equal(clip_pixels(pixels), np.clip(pixels, 0, 1))


@given(arrays.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32)))
def test_pixels_in_range_are_not_copied(pixels: NDArray[np.float32]) -> None:
    assert read_pixels(pixels) is pixels
    assert clip_pixels(pixels) is pixels


@given(st.floats(width=32, allow_nan=False).filter(lambda value: not -ROUNDING <= value <= 1 + ROUNDING))
@example(float(np.nextafter(FURTHEST[0], np.float32(-1))))
@example(float(np.nextafter(FURTHEST[1], np.float32(2))))
def test_what_lies_further_out_is_refused_with_its_digits(value: float) -> None:
    pixels = np.array([0.5, value], np.float32)
    with pytest.raises(PixelRangeError) as caught:
        read_pixels(pixels)
    told = re.fullmatch("values from (.*) to (.*); 0 to 1 are allowed", str(caught.value))
    assert told is not None
    assert [np.float32(text) for text in told.groups()] == sorted(pixels)
    assert clip_pixels(pixels).tolist() == [0.5, float(value > 0)]


@pytest.mark.parametrize("outside", [2.0, -1.0])
def test_nan_is_still_there_after_clipping(outside: Any) -> None:
    pixels = np.array([np.nan, 0.25], np.float32)
    assert np.isnan(clip_pixels(pixels)[0])
    assert np.isnan(np.append(pixels, np.float32(outside)).clip(0, 1)[0])
