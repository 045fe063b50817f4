"""Scores of images: ELBO terms, the importance-weighted bound, anomaly percentiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.contract import CALIBRATION_QUANTILES
from latentserve_server.latent.likelihood import Likelihood, sum_rows

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """One value of each an image, float32 [n], in nats; the percentile is from 0 to 100. None: there is none."""

    reconstruction_error: Float32 | None = None
    kl: Float32 | None = None
    elbo: Float32 | None = None
    importance_bound: Float32 | None = None
    anomaly_percentile: Float32 | None = None


def score_at_mean(
    likelihood: Likelihood,
    images: Float32,
    mean: Float32,
    log_variance: Float32,
    decoded: Mapping[str, NDArray[Any]],
    quantiles: Sequence[float] = (),
) -> Scores:
    """The scores at the posterior mean, from which the decoder's outputs `decoded` are.

    Without `quantiles` of a calibration there is no percentile.
    """
    error = likelihood.nats(images, decoded)
    kl = gaussian_kl_nats(mean, log_variance)
    percentile = anomaly_percentile(quantiles, error + kl) if quantiles else None
    return Scores(error, kl, -(error + kl), anomaly_percentile=percentile)


def score_point(likelihood: Likelihood, images: Float32, decoded: Mapping[str, NDArray[Any]]) -> Scores:
    """The reconstruction error alone, of the decoder's outputs for latents that have no distribution."""
    return Scores(likelihood.nats(images, decoded))


def score_draws(
    likelihood: Likelihood,
    images: Float32,
    mean: Float32,
    log_variance: Float32,
    decoded: Mapping[str, NDArray[Any]],
    noise: Float32,
    latents: Float32,
) -> Scores:
    """The scores over k draws an image: noise, latents and the decoder's outputs, [n * k, ...], image by image.

    The bound is log 1/k sum_j w_j with log w = log p(x|z) + log p(z) - log q(z|x); Burda, Grosse and Salakhutdinov
    2015, "Importance weighted autoencoders", equation 8. The normalising constants of p(z) and q(z|x) cancel.
    """
    draws = len(latents) // len(images)
    errors = likelihood.nats(np.repeat(images, draws, axis=0), decoded).astype(np.float64)
    log_prior = -0.5 * np.sum(np.square(latents, dtype=np.float64), axis=1)
    log_posterior = -0.5 * np.sum(
        np.square(noise, dtype=np.float64) + np.repeat(log_variance, draws, axis=0), axis=1, dtype=np.float64
    )
    log_weights = (log_prior - log_posterior - errors).reshape(-1, draws)
    error = errors.reshape(-1, draws).mean(axis=1).astype(np.float32)
    kl = gaussian_kl_nats(mean, log_variance)
    return Scores(error, kl, -(error + kl), _log_mean_exp(log_weights).astype(np.float32))


def draw_latents(mean: Float32, log_variance: Float32, noise: Float32) -> Float32:
    """mean + exp(log_variance / 2) * noise for every row of noise, [n * k, d], image by image."""
    draws = len(noise) // len(mean)
    deviation: Float32 = np.exp(log_variance * np.float32(0.5))
    return np.repeat(mean, draws, axis=0) + np.repeat(deviation, draws, axis=0) * noise


def _log_mean_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.logaddexp.reduce(values, axis=1) - np.log(values.shape[1])
    return result


def anomaly_percentile(quantiles: Sequence[float], negative_elbo: NDArray[np.float32]) -> NDArray[np.float32]:
    """The share of calibrated images that score no higher, from 0 to 100, float32 [n], of -ELBO in nats, [n].

    `quantiles` are 101 values that never fall. Between two of them the share grows linearly; below the first it is 0,
    from the last on 100. Of equal quantiles the highest counts.
    """
    bounds = np.asarray(quantiles, np.float64)
    scores = negative_elbo.astype(np.float64)
    not_above = np.searchsorted(bounds, scores, side="right")
    low = np.clip(not_above - 1, 0, CALIBRATION_QUANTILES - 2)
    below, above = bounds[low], bounds[low + 1]
    width = np.where(above > below, above - below, 1.0)
    inside = low + (scores - below) / width
    shares = np.where(
        not_above == 0, 0.0, np.where(not_above == CALIBRATION_QUANTILES, CALIBRATION_QUANTILES - 1.0, inside)
    )
    return shares.astype(np.float32)


def gaussian_kl_nats(mean: NDArray[np.float32], log_variance: NDArray[np.float32]) -> NDArray[np.float32]:
    """KL(N(mean, diag(exp(log_variance))) || N(0, I)) for every row: [n, d] to float32 [n].

    sum(mean^2 + exp(log_variance) - 1 - log_variance) / 2; Kingma and Welling 2014, appendix B. In float64, and by
    expm1: near the prior the terms cancel, and in float32 the sum would fall below zero.
    """
    wide = log_variance.astype(np.float64)
    return sum_rows(0.5 * (np.square(mean, dtype=np.float64) + (np.expm1(wide) - wide)))
