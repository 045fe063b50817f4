"""The trial of one graph before it serves: golden rows in batches of many sizes, and how long such batches take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from latentserve.row_bits import TRIAL_BATCHES, TRIAL_ROWS, batch_dependence, more_rows
from latentserve_server.bundle.golden_rows import GoldenRows, Invariance
from latentserve_server.engine import Engine
from latentserve_server.engine.thread import Cancellation, EngineThread

_ROWS_ALONE = 8
"""Golden rows, at most, that run alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphTrial:
    """A graph on trial, with what it is tried on. All of it happens on the engine's thread, each run in a slot."""

    engine: Engine
    golden: GoldenRows
    encoder: Engine | None
    """The encoder of the same model, where that is another graph: its means stay on the device."""
    thread: EngineThread
    cancellation: Cancellation
    padded: bool
    """Whether batches are filled up to a power of two rows, or to the most."""
    bound: bool
    """Whether the buffers of padded batches stay on the device."""

    def run(self, max_rows: int) -> Invariance:
        """Run the golden rows together, in batches of many sizes, and alone; then others.

        Raises:
            BundleError: the graph does not reproduce them. EngineFailure: it did not run, or was cancelled.
        """
        with self.thread.slot():
            invariance = Invariance(self.golden.check(self.engine, self.cancellation))
        self.run_sizes(self._sizes(max_rows), invariance)
        for row in range(1, min(len(self.golden), _ROWS_ALONE)):
            with self.thread.slot():
                invariance.compare(self.golden.check(self.engine, self.cancellation, 1, row), row)
        if not invariance.exception:
            invariance.exception = self._try_more_rows(max_rows)
        return invariance

    def extend(self, tried_rows: int, max_rows: int, invariance: Invariance) -> None:
        """Do for larger batches, up to `max_rows`, what `run` did for those up to `tried_rows`.

        Raises:
            BundleError: the graph does not reproduce them. EngineFailure: it did not run, or was cancelled.
        """
        self.run_sizes([rows for rows in self._sizes(max_rows) if rows > tried_rows], invariance)

    def run_sizes(self, sizes: Sequence[int], invariance: Invariance) -> None:
        """Run the golden rows over again in a batch of each size."""
        for rows in sizes:
            with self.thread.slot():
                if self.bound:
                    means = self.encoder.resident("mean", rows) if self.encoder else None
                    self.engine.bind(rows, {"latent": means} if means else {})
                invariance.compare(self.golden.check(self.engine, self.cancellation, rows))

    def seconds(self, rows: int) -> float:
        """What a run of so many rows takes.

        Raises:
            EngineFailure: it did not run, or was cancelled.
        """
        inputs = self.golden.repeated(rows)
        with self.thread.slot():
            began = time.perf_counter()
            self.engine.run(inputs, list(self.golden.outputs), self.cancellation)
            return time.perf_counter() - began

    def end(self) -> None:
        """Give back what the trial took of memory."""
        with self.thread.slot():
            self.engine.shrink(self.golden.inputs)

    def _sizes(self, max_rows: int) -> Sequence[int]:
        """Every size that the device is to meet where batches are padded; else the small ones and the largest.

        Where they are not, any size may come. What goes wrong in one of many rows does so in the largest, too, and
        a batch of TRIAL_ROWS is yet to come.
        """
        sizes = buckets(max_rows)
        return sizes if self.padded else [rows for rows in sizes if rows < TRIAL_ROWS or rows == sizes[-1]]

    def _try_more_rows(self, max_rows: int) -> str:
        """Run many more rows than the golden ones; the first batch and output in which one has other bits, or ""."""

        def run(rows: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
            with self.thread.slot():
                return self.engine.run(rows, list(self.golden.outputs), self.cancellation)

        sizes = {min(size, max_rows) for size in TRIAL_BATCHES}
        if self.padded:  # the device meets no others
            sizes &= set(buckets(max_rows))
        return batch_dependence(run, more_rows(self.golden.inputs), sizes)


def buckets(max_rows: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `max_rows`."""
    return (*(1 << power for power in range((max_rows - 1).bit_length())), max_rows)
