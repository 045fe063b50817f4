"""A Gaussian mixture over latents: read from its archive, and drawn from with the noise of (seed, index).

The rule is part of the contract and is specified, with test vectors, in docs/protocol.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_server.archive import read_archive
from latentserve_server.errors import BundleError

Float32 = NDArray[np.float32]

MAX_FACTOR_BYTES = 1 << 29
"""What the factors of a mixture may take, in bytes."""

_WEIGHT_TOLERANCE = 1e-6
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


def parse_mixture(data: bytes, components: int, dim: int) -> Mixture:
    """The mixture in a NumPy archive of "weights", "means" and "factors".

    Raises:
        BundleError: there is no such archive, or its arrays are not those of a mixture of so many components and
            dimensions.
    """
    if 4 * components * dim * dim > MAX_FACTOR_BYTES:
        raise BundleError(f"mixture: the factors of {components} components are over {MAX_FACTOR_BYTES} bytes")
    arrays = read_archive(data, "mixture", MAX_FACTOR_BYTES)
    _check_array(arrays, "weights", np.dtype(np.float64), (components,))
    _check_array(arrays, "means", np.dtype(np.float32), (components, dim))
    _check_array(arrays, "factors", np.dtype(np.float32), (components, dim, dim))
    weights, factors = arrays["weights"], arrays["factors"]
    if not (weights > 0).all() or abs(math.fsum(weights) - 1) > _WEIGHT_TOLERANCE:
        raise BundleError(f"mixture: the weights are not positive with sum 1 within {_WEIGHT_TOLERANCE:g}")
    if any(np.triu(factor, 1).any() for factor in factors):
        raise BundleError("mixture: the factors are not lower triangular")
    if not (np.diagonal(factors, axis1=1, axis2=2) > 0).all():
        raise BundleError("mixture: the factors' diagonals are not positive")
    return Mixture(weights, arrays["means"], factors)


def _check_array(arrays: Mapping[str, NDArray[Any]], name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    array = arrays.get(name)
    if array is None:
        raise BundleError(f"mixture: there is no array {name!r}")
    if array.dtype != dtype or array.shape != shape:
        raise BundleError(f"mixture: {name} is {array.dtype.name} {list(array.shape)}, not {dtype.name} {list(shape)}")
    if not np.isfinite(array).all():
        raise BundleError(f"mixture: {name} has a value that is not finite")


def _place(mean: Float32, factor: Float32, noise: Float32) -> Float32:
    """mean + factor noise for every row of noise [n, d]: column by column, each product and each sum rounded."""
    columns, values_of_noise = np.ascontiguousarray(factor.T), np.ascontiguousarray(noise.T)
    values = np.repeat(mean[:, np.newaxis], len(noise), axis=1)
    products = np.empty_like(values)
    for j in range(len(mean)):
        np.multiply(columns[j, j:, np.newaxis], values_of_noise[j], out=products[j:])
        values[j:] += products[j:]
    return values.T
