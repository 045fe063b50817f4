"""What a reconstruction costs, in nats, a row at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def bernoulli_nats(images: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """-log p(x|z) for every row: images x in [0, 1] and logits l, both [n, ...], to float32 [n].

    p(x|z) is an independent Bernoulli(sigmoid(l)) for every pixel and channel: -log p = sum(softplus(l) - x l). It is
    linear in x, so for grey x it is the expectation over x binarised at random.
    """
    softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))
    return _sum_rows(softplus - images * logits)


def gaussian_kl_nats(mean: NDArray[np.float32], log_variance: NDArray[np.float32]) -> NDArray[np.float32]:
    """KL(N(mean, diag(exp(log_variance))) || N(0, I)) for every row: [n, d] to float32 [n].

    sum(mean^2 + exp(log_variance) - 1 - log_variance) / 2; Kingma and Welling 2014, appendix B. In float64, and by
    expm1: near the prior the terms cancel, and in float32 the sum would fall below zero.
    """
    wide = log_variance.astype(np.float64)
    return _sum_rows(0.5 * (np.square(mean, dtype=np.float64) + (np.expm1(wide) - wide)))


def _sum_rows(terms: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    rows = terms.reshape(len(terms), -1)
    sums: NDArray[np.float64] = np.sum(rows, axis=1, dtype=np.float64)
    return sums.astype(np.float32)
