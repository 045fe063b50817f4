"""A batch's rows shared among threads that run a single-threaded graph.

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
    """Threads that run the shares of batches, of any number of graphs; they end with `close`."""

    def __init__(self, threads: int) -> None:
        """`threads` run one batch at most, the caller's among them. None starts before it has work."""
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, "row-shares") if threads > 1 else None

    def close(self) -> None:
        """Wait for shares under way and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)

    def run(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """What `run` makes of all rows of the inputs, in their order.

        The caller runs itself what no thread has begun, so that it never waits for the batch of another graph.

        Raises:
            Exception: what `run` raises for one of the shares, once all that had begun have ended.
        """
        rows = len(next(iter(inputs.values())))
        count = min(self._threads, rows)
        if self._pool is None or count < 2:
            return run(inputs)
        edges = [rows * share // count for share in range(count + 1)]
        shares = [{name: array[start:end] for name, array in inputs.items()} for start, end in pairwise(edges)]
        under_way = [self._pool.submit(run, share) for share in shares[1:]]
        try:
            made = [run(shares[0])]
            for share, future in zip(reversed(shares[1:]), reversed(under_way), strict=True):  # threads begin in front
                made.insert(1, run(share) if future.cancel() else future.result())
        finally:
            wait([future for future in under_way if not future.cancel()])
        return [np.concatenate(parts) for parts in zip(*made, strict=True)]
