"""Name, dtype and shape of a graph's input or output, without the batch axis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
"""Tensors of a graph by name; axis 0 of each counts rows."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a graph, without its batch axis."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape)
