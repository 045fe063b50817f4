"""Psi: an input of a decoder beside its latents that callers may set, one value a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentserve_server.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Psi:
    """What one decoder's psi may be, and what it is where nobody sets it; float32 values, as is the input."""

    default: float
    least: float
    most: float

    def check(self, field: str, values: NDArray[np.float32]) -> None:
        """Hold the values of rows, or one of all rows, to the range.

        Raises:
            InvalidArgument: one lies outside, or is not a number; names the first.
        """
        outside = ~((values >= self.least) & (values <= self.most))
        if outside.any():
            row = f"row {outside.argmax()} holds " if values.ndim else ""
            allowed = f"{np.float32(self.least)!s} to {np.float32(self.most)!s}"
            raise InvalidArgument(field, f"{row}{values[outside][0]!s}; {allowed} are allowed")

    def rows(self, count: int, value: float | None = None) -> NDArray[np.float32]:
        """The input of so many rows, float32 [count], which have the same value: this one, or the default."""
        return np.full(count, self.default if value is None else value, np.float32)
