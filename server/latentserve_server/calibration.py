"""Where an image's score lies among those of ordinary images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

QUANTILES = 101
"""The 0 %, 1 %, ..., 100 % quantiles."""


def anomaly_percentile(quantiles: Sequence[float], negative_elbo: NDArray[np.float32]) -> NDArray[np.float32]:
    """The share of calibrated images that score no higher, from 0 to 100, float32 [n], of -ELBO in nats, [n].

    `quantiles` are 101 values that never fall. Between two of them the share grows linearly; below the first it is 0,
    from the last on 100. Of equal quantiles the highest counts.
    """
    bounds = np.asarray(quantiles, np.float64)
    scores = negative_elbo.astype(np.float64)
    not_above = np.searchsorted(bounds, scores, side="right")
    low = np.clip(not_above - 1, 0, QUANTILES - 2)
    below, above = bounds[low], bounds[low + 1]
    width = np.where(above > below, above - below, 1.0)
    inside = low + (scores - below) / width
    shares = np.where(not_above == 0, 0.0, np.where(not_above == QUANTILES, QUANTILES - 1.0, inside))
    return shares.astype(np.float32)
