"""What a reconstruction costs, held against the formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from latentserve_server.nats import bernoulli_nats, gaussian_kl_nats

Float32 = NDArray[np.float32]


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


def exact_kl(mean: Float32, log_variance: Float32) -> NDArray[np.float64]:
    m, v = mean.astype(np.float64), log_variance.astype(np.float64)
    return np.asarray(0.5 * (m**2 + np.expm1(v) - v).sum(axis=1))


@given(pair=arrays.arrays(np.float32, (2, 3, 7), elements=floats(-8, 8)))
def test_kl_is_the_formulas_to_a_millionth_of_its_terms(pair: Float32) -> None:
    mean, log_variance = pair
    cost = gaussian_kl_nats(mean, log_variance)
    assert (str(cost.dtype), cost.shape) == ("float32", (3,))
    np.testing.assert_allclose(cost, exact_kl(mean, log_variance), rtol=1e-5, atol=1e-5)


def test_kl_near_the_prior_is_small_and_never_negative() -> None:
    log_variance = np.linspace(-1e-3, 1e-3, 64, dtype=np.float32)[:, None]
    mean = np.full_like(log_variance, 1e-5)
    cost = gaussian_kl_nats(mean, log_variance)
    assert (cost >= 0).all()
    np.testing.assert_allclose(cost, exact_kl(mean, log_variance), rtol=1e-4)


@given(
    images=arrays.arrays(np.float32, (3, 1, 2, 2), elements=floats(0, 1)),
    logits=arrays.arrays(np.float32, (3, 1, 2, 2), elements=floats(-90, 90)),
)
def test_bernoulli_is_the_formula(images: Float32, logits: Float32) -> None:
    x, z = images.astype(np.float64), logits.astype(np.float64)
    exact = (np.logaddexp(0, z) - x * z).sum(axis=(1, 2, 3))
    cost = bernoulli_nats(images, logits)
    assert (str(cost.dtype), cost.shape) == ("float32", (3,))
    np.testing.assert_allclose(cost, exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("pixel", "logit"), [(1, 200), (0, -200), (1, -200), (0, 200)])
def test_bernoulli_is_finite_where_a_probability_rounds_to_zero_or_one(pixel: float, logit: float) -> None:
    (cost,) = bernoulli_nats(np.full((1, 1), pixel, np.float32), np.full((1, 1), logit, np.float32))
    assert cost == (0 if (pixel == 1) == (logit > 0) else 200)
