"""Drift: how far what a model encodes now lies from what it was calibrated on.

Rows are looked at in windows, one after another, each of at least `WINDOW_ROWS` rows; a window that is not full tells
nothing, and no row counts in two. So what is told is of many rows, and no difference of two numbers is of a few.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

WINDOW_ROWS = 1000
"""A window ends with the batch or the call that brings so many."""

PERCENTILE_BINS = 10

_LEAST_VARIANCE = 1e-4
"""Every variance is raised by this, where a prior's is 1: a latent that never varies tells nothing by its last bits."""

_GATHERED_BYTES = 1 << 17
"""Rows are gathered up to so many bytes, and then summed: a sum of few takes as long as one of many."""


class LatentDrift:
    """How far the posterior means of each window lie from those of the calibration. Fed by one thread at a time."""

    def __init__(self, means: Float32, variances: Float32) -> None:
        """`means` and `variances`, [d] each, are those of the calibrated images' posterior means."""
        self._means = means.astype(np.float64)
        self._variances = variances.astype(np.float64)
        self._gathered = _Gathered(len(means))
        self._start()

    def add(self, rows: Float32) -> float | None:
        """Take posterior means [n, d], all finite; returns the drift of the window that they end, in nats a latent."""
        for block in self._gathered.add(rows):
            self._sum(block)
        if self._rows + self._gathered.rows < WINDOW_ROWS:
            return None
        self._sum(self._gathered.take())
        mean = self._sums / self._rows
        variance = self._squares / self._rows - np.square(mean)
        drift = gaussian_drift(mean + self._means, variance, self._means, self._variances)
        self._start()
        return drift

    def _start(self) -> None:
        self._rows = 0
        self._sums = np.zeros(len(self._means))
        self._squares = np.zeros(len(self._means))

    def _sum(self, block: Float32) -> None:
        centred = np.subtract(block, self._means, dtype=np.float64)  # squares cancel least about the mean
        self._rows += len(block)
        self._sums += centred.sum(axis=0)
        self._squares += np.einsum("ij,ij->j", centred, centred)


class PercentileDrift:
    """How far the anomaly percentiles of each window are from even, as those of calibrated images are."""

    def __init__(self) -> None:
        self._gathered = _Gathered(1)
        self._counts = np.zeros(PERCENTILE_BINS, np.int64)

    def add(self, percentiles: Float32) -> float | None:
        """Take percentiles [n], from 0 to 100; returns the population stability index of the window that they end."""
        for block in self._gathered.add(percentiles[:, np.newaxis]):
            self._count(block)
        if self._counts.sum() + self._gathered.rows < WINDOW_ROWS:
            return None
        self._count(self._gathered.take())
        index = stability_index(self._counts)
        self._counts[:] = 0
        return index

    def _count(self, block: Float32) -> None:
        bins = np.minimum(block[:, 0] * (PERCENTILE_BINS / 100), PERCENTILE_BINS - 1).astype(np.intp)
        self._counts += np.bincount(bins, minlength=PERCENTILE_BINS)


def gaussian_drift(mean: Float64, variance: Float64, from_mean: Float64, from_variance: Float64) -> float:
    """KL(N(mean, variance) || N(from_mean, from_variance)) in nats, averaged over d latents, of [d] each.

    (ln(w / v) + (v + (m - n)^2) / w - 1) / 2 for means m, n and variances v, w, each raised by 1e-4; Kullback 1959,
    "Information theory and statistics", chapter 9. 0.125 where all means have moved by half a standard deviation.
    """
    now, before = np.maximum(variance, 0) + _LEAST_VARIANCE, from_variance + _LEAST_VARIANCE
    ratio = now / before
    nats = 0.5 * (np.square(mean - from_mean) / before + (ratio - 1) - np.log(ratio))
    return float(nats.mean())


def stability_index(counts: NDArray[np.int64]) -> float:
    """The population stability index of counts [k] against k bins that are equally likely.

    sum((p - q) ln(p / q)) over the shares p of the bins and q = 1 / k; Siddiqi 2006, "Credit risk scorecards".
    It is Jeffreys' divergence of the two. Half a row is added to every bin, so that an empty one has a logarithm.
    """
    shares = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    even = 1 / len(counts)
    return float(np.sum((shares - even) * np.log(shares / even)))


class _Gathered:
    """Rows of small batches, until there are enough to be worth a sum."""

    def __init__(self, dim: int) -> None:
        room = max(1, min(WINDOW_ROWS, _GATHERED_BYTES // (4 * dim)))
        self._rows = np.empty((room, dim), np.float32)
        self.rows = 0

    def add(self, rows: NDArray[Any]) -> Iterator[Float32]:
        """Keep rows [n, d]; gives the blocks that are to be summed now."""
        filled = self.rows + len(rows)
        if filled <= len(self._rows):
            self._rows[self.rows : filled] = rows
            self.rows = filled
            return
        yield self.take()
        if 2 * len(rows) > (room := len(self._rows)):
            yield from (rows[begin : begin + room] for begin in range(0, len(rows), room))
        else:
            self._rows[: len(rows)] = rows
            self.rows = len(rows)

    def take(self) -> Float32:
        """All rows that are kept, which are then kept no longer; they are overwritten by what is added next."""
        taken, self.rows = self._rows[: self.rows], 0
        return taken
