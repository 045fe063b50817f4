"""PSNR and speed of a converted graph against float32."""

from __future__ import annotations

import math
import time

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from latentserve_training.export.plan import Arrays

_TIMED_ROWS = 64
_TIMED_ROUNDS = 30


def psnr_db(found: NDArray[np.generic], expected: NDArray[np.generic], peak: float) -> float:
    """Peak signal-to-noise ratio in decibels: 10 log10(peak^2 / mean squared difference).

    Equal arrays have 200 dB, more than float32 can tell; others minus infinity where the peak is 0, or where values are
    no finite numbers.
    """
    with np.errstate(invalid="ignore"):
        error = float(np.square(found.astype(np.float64) - expected.astype(np.float64)).mean())
    if error == 0:
        return 200.0
    if not math.isfinite(error) or peak == 0:
        return -math.inf
    return min(200.0, 10 * math.log10(peak**2 / error))


def speedup(
    exact: onnxruntime.InferenceSession, converted: onnxruntime.InferenceSession, name: str, inputs: Arrays
) -> float:
    """The first session's median time for 64 rows over the second's, measured alternately under the same load."""
    batch = {key: rows[:_TIMED_ROWS] for key, rows in inputs.items()}
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMED_ROUNDS):
        for session, column in zip((exact, converted), seconds, strict=True):
            start = time.perf_counter()
            session.run([name], batch)
            column.append(time.perf_counter() - start)
    first, second = (float(np.median(column)) for column in seconds)
    return first / second
