"""Interpolations and traversals of the latent space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_NEARLY_PARALLEL = 1e-6

_PAIR_BYTES = 1 << 14
"""A pair costs, besides its points, about as much as work on so many bytes."""


class Path(Enum):
    """How to get from one latent to another."""

    LINEAR = "linear"
    SPHERICAL = "spherical"


@dataclass(frozen=True, slots=True)
class Axis:
    """One latent dimension and the evenly spaced values it takes."""

    dimension: int
    low: float
    high: float
    steps: int


def interpolation_bytes(start: Float32, steps: int) -> int:
    """How much data `interpolate` goes over, in bytes, about."""
    return start.nbytes * steps + _PAIR_BYTES * len(start)


def interpolate(start: Float32, end: Float32, steps: int, path: Path) -> Float32:
    """`steps` points from each row of start to the same row of end, [n, d] each, both included: [n * steps, d]."""
    t = np.linspace(0.0, 1.0, steps)[:, np.newaxis]
    a, b = start.astype(np.float64), end.astype(np.float64)
    way = _slerp if path is Path.SPHERICAL else _lerp
    return np.concatenate([way(a[i], b[i], t) for i in range(len(a))]).astype(np.float32)


def traverse(origin: Float32, axes: Sequence[Axis]) -> Float32:
    """Copies of origin, [d], in which the axes' dimensions take every combination of values, the last one fastest."""
    values = np.meshgrid(*(np.linspace(axis.low, axis.high, axis.steps) for axis in axes), indexing="ij")
    points = np.tile(origin, (values[0].size, 1))
    for axis, column in zip(axes, values, strict=True):
        points[:, axis.dimension] = column.ravel()
    return points


def _lerp(a: NDArray[np.float64], b: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 - t) * a + t * b


def _slerp(a: NDArray[np.float64], b: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions by the formula of Shoemake 1985 ("Animating rotation with quaternion curves"), lengths evenly."""
    length_a, length_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not length_a or not length_b:
        return _lerp(a, b, t)
    unit_a, unit_b = a / length_a, b / length_b
    angle = float(np.arctan2(np.linalg.norm(unit_a - unit_b), np.linalg.norm(unit_a + unit_b)) * 2)
    if angle < _NEARLY_PARALLEL or np.pi - angle < _NEARLY_PARALLEL:
        return _lerp(a, b, t)
    direction: NDArray[np.float64] = (np.sin((1 - t) * angle) * unit_a + np.sin(t * angle) * unit_b) / np.sin(angle)
    return direction * ((1 - t) * length_a + t * length_b)
