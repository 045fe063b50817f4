"""Codes: latents that are indices of a codebook."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class UnknownCode(ValueError):
    """A code that is no index of the codebook."""


def check_codes(rows: NDArray[np.int64], known: int) -> None:
    """Hold rows of codes to a codebook of `known` entries.

    Raises:
        UnknownCode: one is outside; names the first such row, and the code.
    """
    outside = (rows < 0) | (rows >= known)
    if outside.any():
        place = tuple(np.argwhere(outside)[0])
        raise UnknownCode(f"row {place[0]} holds code {rows[place]}; 0 to {known - 1} are allowed")
