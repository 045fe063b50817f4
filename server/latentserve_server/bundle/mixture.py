"""A bundle's mixture of Gaussians, read from its file and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_server.bundle.files import read_arrays
from latentserve_server.errors import BundleError
from latentserve_server.latent.mixture import Mixture

MAX_FACTOR_BYTES = 1 << 29
"""What the factors of a mixture may take, in bytes."""

_WEIGHT_TOLERANCE = 1e-6


def parse_mixture(data: bytes, components: int, dim: int) -> Mixture:
    """The mixture in a NumPy archive of "weights", "means" and "factors".

    Raises:
        BundleError: there is no such archive, or its arrays are not those of a mixture of so many components and
            dimensions.
    """
    if 4 * components * dim * dim > MAX_FACTOR_BYTES:
        raise BundleError(f"mixture: the factors of {components} components are over {MAX_FACTOR_BYTES} bytes")
    arrays = read_arrays(data, "mixture", MAX_FACTOR_BYTES)
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
