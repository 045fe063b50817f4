"""The rows of a batch in shares, one a thread.

A graph that runs on one thread sums in one order, however many threads there are; so the threads share the rows and not
the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Run = Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]
"""From some rows of every input to those of every output."""


class RowShares:
    """Threads that run the shares of a batch; they end when it is forgotten."""

    def __init__(self, threads: int) -> None:
        """`threads` run one batch, the caller's among them."""
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, "row-shares") if threads > 1 else None

    def run(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """What `run` makes of all rows of the inputs, in their order.

        Raises:
            Exception: what `run` raises for one of the shares, once all of them have ended.
        """
        rows = len(next(iter(inputs.values())))
        shares = min(self._threads, rows)
        if self._pool is None or shares < 2:
            return run(inputs)
        edges = [rows * share // shares for share in range(shares + 1)]
        first, *others = ({name: array[start:end] for name, array in inputs.items()} for start, end in pairwise(edges))
        under_way = [self._pool.submit(run, share) for share in others]
        try:
            made = [run(first), *(future.result() for future in under_way)]
        finally:
            wait(under_way)
        return [np.concatenate(parts) for parts in zip(*made, strict=True)]
