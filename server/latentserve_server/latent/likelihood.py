"""Pixel likelihoods p(x|z): the decoder outputs each needs, and -log p(x|z) in nats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2 as pb

Float32 = NDArray[np.float32]

_HALF_LN_2_PI = 0.5 * np.log(2 * np.pi)
_HIGHEST_LEVEL = 255
_HALF_LEVEL = 1 / 510


@dataclass(frozen=True, slots=True)
class Likelihood:
    """One p(x|z)."""

    own_output: str
    """The decoder's output that this likelihood demands beside the images: float32, of an image's shape."""
    outputs: tuple[str, ...]
    """The decoder's outputs that the cost is computed from."""
    _terms: Callable[..., NDArray[np.floating[Any]]]

    def nats(self, images: Float32, decoded: Mapping[str, NDArray[Any]]) -> Float32:
        """-log p(x|z) for every row, float32 [n]: images x [n, ...], and the decoder's outputs for each row's z."""
        return sum_rows(self.terms(images, decoded))

    def terms(self, images: Float32, decoded: Mapping[str, NDArray[Any]]) -> NDArray[np.floating[Any]]:
        """What every pixel and channel adds to `nats`, float32 or float64 [n, ...], in nats."""
        return self._terms(images, *(decoded[name] for name in self.outputs))


def bernoulli_terms(images: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """-log p(x|z) of every pixel: images x in [0, 1] and logits l, both [n, ...], to float32 [n, ...].

    p(x|z) is an independent Bernoulli(sigmoid(l)) for every pixel and channel: -log p = softplus(l) - x l. It is
    linear in x, so for grey x it is the expectation over x binarised at random.
    """
    softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))
    terms: Float32 = softplus - images * logits
    return terms


def gaussian_terms(
    images: NDArray[np.float32], means: NDArray[np.float32], log_scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """-log p(x|z) of every pixel: images x, means m, log standard deviations s, all [n, ...], to float64 [n, ...].

    p(x|z) is an independent N(m, exp(s)^2) for every pixel and channel: -log p = ((x - m) / exp(s))^2 / 2 + s +
    ln(2 pi) / 2. It is a density, so it may be negative.
    """
    scale = log_scale.astype(np.float64)
    with np.errstate(over="ignore"):  # where the scale is nearly nothing, what is not the mean costs infinite nats
        distance = (images.astype(np.float64) - means) * np.exp(-scale)
        terms: NDArray[np.float64] = 0.5 * np.square(distance) + scale + _HALF_LN_2_PI
    return terms


def discretized_logistic_terms(
    images: NDArray[np.float32], locations: NDArray[np.float32], log_scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """-log p(x|z) of every pixel: images x in [0, 1], locations m, log scales s, all [n, ...], to float64 [n, ...].

    A pixel is the level round(255 x) / 255, with the probability that a logistic variable falls within 1/510 of it; the
    lowest level takes all that is below, the highest all that is above (Salimans, Karpathy, Chen and Kingma 2017,
    "PixelCNN++", section 2.1). With F the sigmoid, and a < b the ends, F(b) - F(a) = F(b) F(-a) (1 - exp(a - b)): in
    logarithms, nothing cancels in the tails.
    """
    levels = np.rint(images * np.float32(_HIGHEST_LEVEL))
    centred = levels.astype(np.float64) / _HIGHEST_LEVEL - locations
    with np.errstate(over="ignore", divide="ignore"):  # an impossible pixel costs infinite nats
        inverse = np.exp(-log_scale.astype(np.float64))
        below = np.logaddexp(0, -(centred + _HALF_LEVEL) * inverse)  # -log F(b)
        above = np.logaddexp(0, (centred - _HALF_LEVEL) * inverse)  # -log F(-a)
        within = -np.log(-np.expm1(-2 * _HALF_LEVEL * inverse))
    inner = below + above + within
    terms: NDArray[np.float64] = np.where(levels <= 0, below, np.where(levels >= _HIGHEST_LEVEL, above, inner))
    return terms


def sum_rows(terms: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The sum of each row of terms [n, ...], taken in float64: float32 [n]."""
    rows = terms.reshape(len(terms), -1)
    sums: NDArray[np.float64] = np.sum(rows, axis=1, dtype=np.float64)
    return sums.astype(np.float32)


LIKELIHOODS: Mapping[pb.Likelihood, Likelihood] = MappingProxyType(
    {
        pb.LIKELIHOOD_BERNOULLI: Likelihood("logits", ("logits",), bernoulli_terms),
        pb.LIKELIHOOD_GAUSSIAN: Likelihood("log_scale", ("image", "log_scale"), gaussian_terms),
        pb.LIKELIHOOD_DISCRETIZED_LOGISTIC: Likelihood("log_scale", ("image", "log_scale"), discretized_logistic_terms),
    }
)
"""Those that a VAE may have."""
