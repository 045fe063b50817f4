"""An affine map of numbers, in NumPy for the reference and as two numbers for a graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Affine(NamedTuple):
    """scale * x + offset."""

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The mapped values, in float64."""
        return self.scale * values.astype(np.float64) + self.offset

    @property
    def inverse(self) -> Affine:
        """The map back."""
        return Affine(1 / self.scale, -self.offset / self.scale)
