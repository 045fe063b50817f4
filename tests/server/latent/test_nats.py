"""What a reconstruction costs, held against the formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.stats import logistic, norm

from latentserve_server.latent.likelihood import (
    bernoulli_terms,
    discretized_logistic_terms,
    gaussian_terms,
    sum_rows,
)
from latentserve_server.latent.scores import gaussian_kl_nats

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
    cost = sum_rows(bernoulli_terms(images, logits))
    assert (str(cost.dtype), cost.shape) == ("float32", (3,))
    np.testing.assert_allclose(cost, exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("pixel", "logit"), [(1, 200), (0, -200), (1, -200), (0, 200)])
def test_bernoulli_is_finite_where_a_probability_rounds_to_zero_or_one(pixel: float, logit: float) -> None:
    (cost,) = sum_rows(bernoulli_terms(np.full((1, 1), pixel, np.float32), np.full((1, 1), logit, np.float32)))
    assert cost == (0 if (pixel == 1) == (logit > 0) else 200)


PAIRS = st.tuples(
    arrays.arrays(np.float32, (3, 1, 2, 2), elements=floats(0, 1)),
    arrays.arrays(np.float32, (3, 1, 2, 2), elements=floats(0, 1)),
    arrays.arrays(np.float32, (3, 1, 2, 2), elements=floats(-8, 3)),
)


@given(PAIRS)
def test_gaussian_is_the_density(tensors: tuple[Float32, Float32, Float32]) -> None:
    images, means, log_scale = tensors
    exact = -norm(means, np.exp(log_scale.astype(np.float64))).logpdf(images.astype(np.float64)).sum(axis=(1, 2, 3))
    cost = sum_rows(gaussian_terms(images, means, log_scale))
    assert (str(cost.dtype), cost.shape) == ("float32", (3,))
    np.testing.assert_allclose(cost, exact, rtol=1e-5, atol=1e-4)


def test_a_gaussian_of_a_narrow_scale_costs_less_than_nothing_at_its_mean() -> None:
    at_mean = np.full((1, 4), 0.5, np.float32)
    (cost,) = sum_rows(gaussian_terms(at_mean, at_mean, np.full((1, 4), -5, np.float32)))
    assert cost == pytest.approx(4 * (-5 + 0.5 * np.log(2 * np.pi)))


@given(location=floats(-1, 2), log_scale=floats(-12, 6))
def test_the_256_levels_of_a_discretized_logistic_have_probabilities_that_sum_to_one(
    location: float, log_scale: float
) -> None:
    levels = np.arange(256, dtype=np.uint8).astype(np.float32)[:, None] / np.float32(255)
    cost = sum_rows(discretized_logistic_terms(levels, np.full_like(levels, location), np.full_like(levels, log_scale)))
    assert np.exp(-cost.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)


@given(PAIRS)
def test_a_discretized_logistic_is_a_difference_of_its_distribution(tensors: tuple[Float32, Float32, Float32]) -> None:
    images, means, _ = tensors
    levels = np.rint(images * 255) / 255
    law = logistic(means.astype(np.float64), np.exp(-2.0))  # so wide that the plain difference is exact enough
    upper = np.where(levels >= 1, 1, law.cdf(levels + 1 / 510))
    lower = np.where(levels <= 0, 0, law.cdf(levels - 1 / 510))
    exact = -np.log(upper - lower).sum(axis=(1, 2, 3))
    cost = sum_rows(discretized_logistic_terms(images, means, np.full_like(means, -2)))
    assert (str(cost.dtype), cost.shape) == ("float32", (3,))
    np.testing.assert_allclose(cost, exact, rtol=1e-4)


def test_a_discretized_logistic_far_in_its_tail_costs_its_distance_and_is_not_infinite() -> None:
    """Where the plain difference of the distribution is 0: 0.4 from the middle, in scales of e^-7."""
    pixel, location = np.array([[0.9], [0.1]], np.float32), np.full((2, 1), 0.5, np.float32)
    distance = np.abs(np.rint(pixel[:, 0] * 255) / 255 - 0.5) - 1 / 510
    cost = sum_rows(discretized_logistic_terms(pixel, location, np.full((2, 1), -7, np.float32)))
    width = np.log(-np.expm1(-np.exp(7) / 255))
    np.testing.assert_allclose(cost, distance * np.exp(7) - width, rtol=1e-5)


@pytest.mark.parametrize("terms_of", [gaussian_terms, discretized_logistic_terms])
def test_an_impossible_pixel_costs_infinitely_much(terms_of: Any) -> None:
    one, scale = np.ones((1, 1), np.float32), np.full((1, 1), -800, np.float32)
    assert terms_of(one, np.zeros((1, 1), np.float32), scale).tolist() == [[np.inf]]
