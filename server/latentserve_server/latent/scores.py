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


SCORES = frozenset({"reconstruction_error", "kl", "anomaly_percentile"})
"""Names of those at the posterior mean. Unlike what a graph computes, nats may be infinite."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One value of each an image, float32 [n], in nats; the percentile is from 0 to 100. None: there is none.

    The map, float32 [n, channels, height, width], has the nats of every pixel and channel: they sum to the error.
    """

    reconstruction_error: Float32 | None = None
    kl: Float32 | None = None
    elbo: Float32 | None = None
    importance_bound: Float32 | None = None
    anomaly_percentile: Float32 | None = None
    error_map: Float32 | None = None

    def by_name(self) -> dict[str, Float32]:
        """Those of `SCORES` that there are."""
        found = {name: getattr(self, name) for name in SCORES}
        return {name: rows for name, rows in found.items() if rows is not None}

    @classmethod
    def at_mean(cls, found: Mapping[str, NDArray[Any]]) -> Scores:
        """What `by_name` gave, or rows of it."""
        error, kl = found["reconstruction_error"], found.get("kl")
        elbo = None if kl is None else -(error + kl)
        return cls(error, kl, elbo, anomaly_percentile=found.get("anomaly_percentile"))


def score_at_mean(
    likelihood: Likelihood,
    images: Float32,
    mean: Float32,
    log_variance: Float32,
    decoded: Mapping[str, NDArray[Any]],
    quantiles: Sequence[float] | NDArray[np.float64] = (),
    *,
    with_map: bool = False,
) -> Scores:
    """The scores at the posterior mean, from which the decoder's outputs `decoded` are.

    Without `quantiles` of a calibration there is no percentile.
    """
    terms = likelihood.terms(images, decoded)
    error = sum_rows(terms)
    kl = gaussian_kl_nats(mean, log_variance)
    percentile = anomaly_percentile(quantiles, error + kl) if len(quantiles) else None
    return Scores(error, kl, -(error + kl), None, percentile, _as_map(terms) if with_map else None)


def score_point(
    likelihood: Likelihood, images: Float32, decoded: Mapping[str, NDArray[Any]], *, with_map: bool = False
) -> Scores:
    """The reconstruction error alone, of the decoder's outputs for latents that have no distribution."""
    terms = likelihood.terms(images, decoded)
    return Scores(sum_rows(terms), error_map=_as_map(terms) if with_map else None)


def score_draws(
    likelihood: Likelihood,
    images: Float32,
    mean: Float32,
    log_variance: Float32,
    decoded: Mapping[str, NDArray[Any]],
    noise: Float32,
    latents: Float32,
    *,
    with_map: bool = False,
) -> Scores:
    """The scores over k draws an image: noise, latents and the decoder's outputs, [n * k, ...], image by image.

    The bound is log 1/k sum_j w_j with log w = log p(x|z) + log p(z) - log q(z|x); Burda, Grosse and Salakhutdinov
    2015, "Importance weighted autoencoders", equation 8. The normalising constants of p(z) and q(z|x) cancel.
    """
    draws = len(latents) // len(images)
    terms = likelihood.terms(np.repeat(images, draws, axis=0), decoded)
    errors = sum_rows(terms).astype(np.float64)
    log_prior = -0.5 * np.sum(np.square(latents, dtype=np.float64), axis=1)
    log_posterior = -0.5 * np.sum(
        np.square(noise, dtype=np.float64) + np.repeat(log_variance, draws, axis=0), axis=1, dtype=np.float64
    )
    log_weights = (log_prior - log_posterior - errors).reshape(-1, draws)
    error = errors.reshape(-1, draws).mean(axis=1).astype(np.float32)
    kl = gaussian_kl_nats(mean, log_variance)
    bound = _log_mean_exp(log_weights).astype(np.float32)
    of_draws = terms.reshape(-1, draws, *terms.shape[1:])
    return Scores(error, kl, -(error + kl), bound, None, _as_map(of_draws.mean(axis=1)) if with_map else None)


def draw_latents(mean: Float32, log_variance: Float32, noise: Float32) -> Float32:
    """mean + exp(log_variance / 2) * noise for every row of noise, [n * k, d], image by image."""
    draws = len(noise) // len(mean)
    deviation: Float32 = np.exp(log_variance * np.float32(0.5))
    return np.repeat(mean, draws, axis=0) + np.repeat(deviation, draws, axis=0) * noise


def shade(error_map: Float32) -> NDArray[np.uint8]:
    """Maps [n, channels, height, width] in nats as grey pictures, uint8 [n, 1, height, width].

    The sum over channels, from 0 at the least of each image to 255 at its most; infinite nats are white. An image whose
    pixels all cost the same is black.
    """
    costs = error_map.sum(axis=1, keepdims=True, dtype=np.float64)
    rows = costs.reshape(len(costs), -1)
    finite = np.isfinite(rows)
    low = rows.min(axis=1, keepdims=True, where=finite, initial=np.inf)
    high = rows.max(axis=1, keepdims=True, where=finite, initial=-np.inf)
    spread = np.where(high > low, high - low, 1.0)
    levels = np.clip((rows - np.where(high >= low, low, 0.0)) / spread, 0, 1) * 255
    pictures: NDArray[np.uint8] = np.rint(levels).astype(np.uint8).reshape(costs.shape)
    return pictures


def _as_map(terms: NDArray[np.floating[Any]]) -> Float32:
    return terms.astype(np.float32, copy=False)


def _log_mean_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.logaddexp.reduce(values, axis=1) - np.log(values.shape[1])
    return result


def anomaly_percentile(
    quantiles: Sequence[float] | NDArray[np.float64], negative_elbo: NDArray[np.float32]
) -> NDArray[np.float32]:
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
