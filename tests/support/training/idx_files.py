"""The IDX bytes of an array."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray


def to_idx(array: NDArray[np.uint8]) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
