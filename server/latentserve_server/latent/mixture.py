"""A Gaussian mixture over latents, drawn with the noise of (seed, index).

The rule is part of the contract and is specified, with test vectors, in docs/protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_UNIT = 2.0**-53


@dataclass(frozen=True, eq=False)
class Mixture:
    """k components: the sum of weight c times N(means[c], factors[c] factors[c]^T)."""

    weights: NDArray[np.float64]
    """[k], positive, with sum 1."""
    means: Float32
    """[k, d]."""
    factors: Float32
    """[k, d, d], lower triangular, with positive diagonals."""

    def choose(self, words: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The component of each row, [n], from one word each."""
        uniform = (words >> np.uint64(11)).astype(np.float64) * _UNIT
        # The last sum is left out: rounded, it may lie below 1, and a word above it would have no component.
        return np.searchsorted(np.cumsum(self.weights)[:-1], uniform, side="right")

    def place(self, components: NDArray[np.intp], noise: Float32) -> Float32:
        """means[c] + factors[c] noise for every row, float32 [n, d], where c is the row's component.

        A row's bits depend on its component and its noise alone. A product of matrices would not do: the order of its
        sums, and so their rounding, changes with the number of rows and the processor.
        """
        latents = np.empty_like(noise)
        for component in np.unique(components):
            rows = np.flatnonzero(components == component)
            latents[rows] = _place(self.means[component], self.factors[component], noise[rows])
        return latents


def _place(mean: Float32, factor: Float32, noise: Float32) -> Float32:
    """mean + factor noise for every row of noise [n, d]: column by column, each product and each sum rounded."""
    columns, values_of_noise = np.ascontiguousarray(factor.T), np.ascontiguousarray(noise.T)
    values = np.repeat(mean[:, np.newaxis], len(noise), axis=1)
    products = np.empty_like(values)
    for j in range(len(mean)):
        np.multiply(columns[j, j:, np.newaxis], values_of_noise[j], out=products[j:])
        values[j:] += products[j:]
    return values.T
