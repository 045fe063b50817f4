"""A version's numerics: a fingerprint of its bits, and whether batches change them.

Runs nothing: it looks at what the golden rows' runs gave.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[Any]]
"""The outputs of one graph, by name."""

FINGERPRINT_DIGITS = 16


class Invariance:
    """Whether the golden rows of one graph have the same bits in every batch in which they ran."""

    def __init__(self, together: Outputs) -> None:
        """`together` are the outputs of all golden rows in one batch."""
        self.together = together
        self.exception = ""
        """The first batch and output of which a row, golden or not, has other bits; empty where there is none."""

    def compare(self, computed: Outputs, first: int = 0) -> None:
        """Hold another batch to it, which has the golden rows from `first` on, over and over again."""
        for name, together in self.together.items():
            rows = len(computed[name])
            same = together[np.arange(first, first + rows) % len(together)]
            if not self.exception and computed[name].tobytes() != same.tobytes():
                self.exception = f"{name!r} in a batch of {rows}"


def fingerprint(graphs: Mapping[str, Outputs]) -> str:
    """The fingerprint of what the graphs, by name, made of their golden rows: hexadecimal digits.

    SHA-256 over the bytes of every output, little-endian and row after row: the graphs in alphabetical order of their
    names, decoder and then encoder, and within each its outputs in that of theirs.
    """
    digest = hashlib.sha256()
    for _, outputs in sorted(graphs.items()):
        for _, output in sorted(outputs.items()):
            digest.update(output.astype(output.dtype.newbyteorder("<"), order="C", copy=False).tobytes())
    return digest.hexdigest()[:FINGERPRINT_DIGITS]
