"""Noise from a truncated normal distribution: inside the bound, distributed so, and as reproducible as the rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, truncnorm

from latentserve_server.latent.noise import ATTEMPT_STRIDE, NoiseSource, Stream


def truncated(seed: int, first: int, count: int, dim: int, bound: float) -> np.ndarray:
    """Rows of a seed, cut off at the bound."""
    source = NoiseSource()
    return source.truncate(source.draw(seed, first, count, dim, Stream.PRIOR), seed, first, Stream.PRIOR, bound)


@pytest.mark.parametrize("bound", [0.5, 1.0, 2.0])
def test_values_are_of_the_truncated_normal_distribution(bound: float) -> None:
    values = truncated(1, 0, 4000, 5, bound).ravel()
    assert np.abs(values).max() <= bound
    assert kstest(values, truncnorm(-bound, bound).cdf).pvalue > 0.01


@settings(max_examples=30)
@given(seed=st.integers(0, 2**64 - 1), first=st.integers(0, 2**40), dim=st.integers(1, 9))
def test_a_row_does_not_depend_on_its_company(seed: int, first: int, dim: int) -> None:
    rows = truncated(seed, first, 20, dim, 0.7)
    assert np.array_equal(rows[7:9], truncated(seed, first + 7, 2, dim, 0.7))


def test_what_is_inside_stays_and_what_is_outside_comes_from_the_next_attempt() -> None:
    source = NoiseSource()
    drawn, again = (source.draw(9, 0, 500, 4, Stream.PRIOR + k * ATTEMPT_STRIDE) for k in (0, 1))
    rows = truncated(9, 0, 500, 4, 1.5)
    inside = np.abs(drawn) <= 1.5
    assert np.array_equal(rows[inside], drawn[inside])
    second = ~inside & (np.abs(again) <= 1.5)
    assert second.any()
    assert np.array_equal(rows[second], again[second])
