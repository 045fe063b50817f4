"""Scores against what they estimate: a linear Gaussian model's exact likelihood, and plain sums in float64."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from latentserve.v1 import bundle_pb2
from latentserve_server.latent.likelihood import LIKELIHOODS, bernoulli_terms, sum_rows
from latentserve_server.latent.noise import NoiseSource, Stream
from latentserve_server.latent.scores import draw_latents, gaussian_kl_nats, score_at_mean, score_draws, shade

BERNOULLI = LIKELIHOODS[bundle_pb2.LIKELIHOOD_BERNOULLI]
ROWS, PIXELS, DIM, DRAWS = 3, 12, 2, 5


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def test_a_bernoulli_costs_what_its_probabilities_say(random: np.random.Generator) -> None:
    images = random.random((ROWS, 1, 3, 4), np.float32)
    logits = random.normal(0, 3, (ROWS, 1, 3, 4)).astype(np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -(images * np.log(p) + (1 - images) * np.log(1 - p)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sum_rows(bernoulli_terms(images, logits)), expected, rtol=1e-5)


def test_a_certain_wrong_pixel_costs_its_logit() -> None:
    assert sum_rows(bernoulli_terms(np.zeros((1, 1), np.float32), np.full((1, 1), 90, np.float32))).tolist() == [90]


def test_kl_is_zero_at_the_prior_and_known_elsewhere() -> None:
    mean, log_variance = np.array([[0, 0], [1, -2]], np.float32), np.array([[0, 0], [1, 0.5]], np.float32)
    expected = 0.5 * (1 + np.e - 1 - 1 + 4 + np.exp(0.5) - 1 - 0.5)
    np.testing.assert_allclose(gaussian_kl_nats(mean, log_variance), [0, expected], rtol=1e-6)


def test_the_elbo_is_minus_both_terms(random: np.random.Generator) -> None:
    images, logits = random.random((ROWS, PIXELS), np.float32), random.normal(size=(ROWS, PIXELS)).astype(np.float32)
    mean, log_variance = random.normal(size=(2, ROWS, DIM)).astype(np.float32)
    scores = score_at_mean(BERNOULLI, images, mean, log_variance, {"logits": logits})
    np.testing.assert_allclose(scores.elbo, -(scores.reconstruction_error + scores.kl))
    assert scores.importance_bound is None


def test_the_bound_is_the_mean_of_the_weights(random: np.random.Generator) -> None:
    images = random.random((ROWS, PIXELS), np.float32)
    mean, log_variance = random.normal(size=(2, ROWS, DIM)).astype(np.float32)
    noise = random.normal(size=(ROWS * DRAWS, DIM)).astype(np.float32)
    latents = draw_latents(mean, log_variance, noise)
    logits = random.normal(size=(ROWS * DRAWS, PIXELS)).astype(np.float32)
    scores = score_draws(BERNOULLI, images, mean, log_variance, {"logits": logits}, noise, latents)
    assert scores.importance_bound is not None
    for i in range(ROWS):
        weights = []
        for j in range(i * DRAWS, (i + 1) * DRAWS):
            z = latents[j].astype(np.float64)
            likelihood = -sum_rows(bernoulli_terms(images[i : i + 1], logits[j : j + 1]))[0]
            posterior = norm(mean[i], np.exp(log_variance[i] / 2)).logpdf(z).sum()
            weights.append(likelihood + norm.logpdf(z).sum() - posterior)
        assert scores.importance_bound[i] == pytest.approx(logsumexp(weights) - np.log(DRAWS), rel=1e-4)
        assert scores.importance_bound[i] >= scores.elbo[i] - abs(scores.elbo[i]) * 0.5


def test_at_the_true_posterior_every_weight_is_the_likelihood() -> None:
    """Where q is exactly p(z|x), the bound is log p(x) with any number of draws: here x tells nothing of z."""
    images = np.ones((1, PIXELS), np.float32)
    mean = log_variance = np.zeros((1, DIM), np.float32)
    noise = NoiseSource().draw(3, 0, DRAWS, DIM, Stream.POSTERIOR)
    latents = draw_latents(mean, log_variance, noise)
    logits = np.zeros((DRAWS, PIXELS), np.float32)
    scores = score_draws(BERNOULLI, images, mean, log_variance, {"logits": logits}, noise, latents)
    assert scores.importance_bound is not None
    assert scores.importance_bound[0] == pytest.approx(-PIXELS * np.log(2), rel=1e-6)


def test_a_shaded_map_is_black_where_least_is_lost_and_white_where_most_is() -> None:
    nats = np.array([[[[0, 1], [2, 4]], [[1, 1], [1, 1]]]], np.float32)
    assert shade(nats).tolist() == [[[[0, 64], [128, 255]]]]


def test_a_shaded_map_shows_impossible_pixels_beside_the_others() -> None:
    nats = np.array([[[[-1, np.inf], [1, 3]]], [[[2, 2], [2, 2]]], [[[np.inf] * 2] * 2]], np.float32)
    assert shade(nats).reshape(3, 4).tolist() == [[0, 255, 128, 255], [0] * 4, [255] * 4]


def test_an_image_that_no_draw_can_explain_has_no_likelihood_at_all() -> None:
    images, latents = np.ones((1, PIXELS), np.float32), np.zeros((DRAWS, DIM), np.float32)
    mean = log_variance = np.zeros((1, DIM), np.float32)
    impossible = {"logits": np.full((DRAWS, PIXELS), -np.inf, np.float32)}
    scores = score_draws(BERNOULLI, images, mean, log_variance, impossible, latents, latents)
    assert scores.importance_bound is not None
    assert scores.importance_bound[0] == -np.inf
