"""The range of pixels, 0 to 1, and the rounding beyond it that is forgiven."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""How far beyond a bound a pixel may lie to be taken for the bound: 4.8e-7, a ten-thousandth of a level of 8 bits.

Tanh and Sigmoid of onnxruntime's CPU kernels return up to 1 + 2 eps and 1 + eps, where the functions are below 1; twice
that leaves room for other processors and devices.
"""


class PixelRangeError(ValueError):
    """Pixels that lie further outside of 0 to 1 than rounding brings them."""


def read_pixels(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pixels, those that rounding has brought beyond a bound on it; NaN is let through.

    Raises:
        PixelRangeError: one lies further outside; the message has all digits of the smallest and the largest.
    """
    low, high = _extremes(pixels)
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise PixelRangeError(f"values from {low!s} to {high!s}; 0 to 1 are allowed")
    return pixels.clip(0, 1) if low < 0 or high > 1 else pixels


def clip_pixels(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pixels, those that lie outside of 0 to 1 on the nearer bound; NaN stays, so that it is seen."""
    low, high = _extremes(pixels)
    return pixels.clip(0, 1) if low < 0 or high > 1 else pixels


def _extremes(pixels: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    """The smallest and the largest pixel, NaN left out; both NaN where there is no other."""
    if not pixels.size:
        return np.float32("nan"), np.float32("nan")
    return np.fmin.reduce(pixels, axis=None), np.fmax.reduce(pixels, axis=None)
