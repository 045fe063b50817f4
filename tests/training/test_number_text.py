"""The text of a number that misses its limit by little, told apart from the limit."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from latentserve_training.number_text import apart

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, FINITE)
@example(1.0, math.nextafter(1.0, 2.0))
@example(39.98, 40.0)
@example(0.0, -0.0)
def test_numbers_that_differ_are_told_apart(value: float, limit: float) -> None:
    value_text, limit_text = apart(value, limit)
    assert (value_text == limit_text) is (value == limit)


def test_four_digits_are_told_where_they_suffice() -> None:
    assert apart(39.9812, 40.0) == ("39.98", "40")
    assert apart(39.99999, 40.0) == ("39.99999", "40")
    assert apart(math.nan, 1.0) == ("nan", "1")
