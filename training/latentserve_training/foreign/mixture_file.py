"""A Gaussian mixture that was fitted elsewhere, in a NumPy archive or a safetensors file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from latentserve_training.errors import ExportError
from latentserve_training.evaluation.mixture import Mixture
from latentserve_training.foreign.latents import Latents

_MAX_BYTES = 1 << 29
"""What a bundle's factors may take."""
_SUM = 1e-3
"""How far from 1 the weights' sum may be, which is then made 1: float32 rounds each of them."""
_ASYMMETRY = 1e-4


def read_mixture(path: Path, latents: Latents) -> Mixture:
    """The mixture in the file, which has the graphs' own latents, as one of the callers' latents.

    Raises:
        ExportError: it cannot be read, or is no mixture over such latents.
    """
    arrays, where = _arrays(path), f"prior.mixture: {path}"
    spread = sorted({"factors", "covariances"} & arrays.keys())
    if not {"weights", "means"} <= arrays.keys() or len(spread) != 1:
        wanted = "there must be weights, means, and factors or covariances"
        raise ExportError(f"{where}: arrays are {sorted(arrays)}; {wanted}")
    count, size = arrays["weights"].size, latents.size
    shapes = {"weights": (count,), "means": (count, size), spread[0]: (count, size, size)}
    for name, shape in shapes.items():
        array = arrays[name]
        means_in_shape = name == "means" and array.shape == (count, *latents.sides)
        if (array.shape != shape and not means_in_shape) or not count:
            raise ExportError(f"{where}: {name} is {list(array.shape)}; it must be {list(shape)}")
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ExportError(f"{where}: {name} must hold finite numbers")
    if 4 * count * size * size > _MAX_BYTES:
        raise ExportError(f"{where}: {spread[0]} of {count} x {size} x {size} numbers are more than a bundle may have")
    weights = arrays["weights"].astype(np.float64)
    if not (weights > 0).all() or abs(weights.sum() - 1) > _SUM:
        raise ExportError(f"{where}: weights must be positive, and their sum 1")
    scale = latents.to_own.inverse.scale
    factors = scale * _factors(arrays[spread[0]].astype(np.float64), spread[0], where)
    means = latents.to_own.inverse(arrays["means"].reshape(count, size))
    return Mixture(weights / weights.sum(), means.astype(np.float32), factors.astype(np.float32))


def _arrays(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise ExportError(f"prior.mixture: {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, AttributeError, TypeError, SafetensorError, zipfile.BadZipFile) as error:
        raise ExportError(f"prior.mixture: {path}: neither a NumPy archive (.npz) nor safetensors") from error


def _factors(matrices: NDArray[np.float64], name: str, where: str) -> NDArray[np.float64]:
    """Lower triangular Cholesky factors."""
    if name == "factors":
        if np.triu(matrices, 1).any() or not (np.diagonal(matrices, axis1=1, axis2=2) > 0).all():
            raise ExportError(f"{where}: factors must be lower triangular with positive diagonals")
        return matrices
    turned = matrices.transpose(0, 2, 1)
    if np.abs(matrices - turned).max() > _ASYMMETRY * np.abs(matrices).max():
        raise ExportError(f"{where}: covariances must be symmetric")
    try:
        return np.asarray(np.linalg.cholesky((matrices + turned) / 2))
    except np.linalg.LinAlgError as error:
        raise ExportError(f"{where}: covariances must be positive definite") from error
