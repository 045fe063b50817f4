"""A call in the queue: its rows, its deadline and priority, and its result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_server.batching.finite_rows import Spoiled
from latentserve_server.batching.queue import Slice, Ticket
from latentserve_server.batching.scheduling import Result, Scheduling, Timing
from latentserve_server.engine import Arrays


@dataclass(frozen=True, slots=True)
class Run:
    """A run's outputs, when it was on the monotonic clock, and its rows, padding left out."""

    outputs: Arrays
    spoiled: Spoiled
    started_ns: int
    ended_ns: int
    rows: int


class Entry(Ticket):
    """One waiting call: its rows in the queue, and the future that its caller awaits."""

    def __init__(
        self, inputs: Arrays, outputs: Sequence[str], scheduling: Scheduling, future: asyncio.Future[Result]
    ) -> None:
        rows = len(next(iter(inputs.values())))
        super().__init__(rows, size_bytes=sum(array.nbytes for array in inputs.values()), bulk=scheduling.bulk)
        self.inputs = inputs
        self.outputs = outputs
        self.deadline = scheduling.deadline
        self.future = future
        self._arrived_ns = time.monotonic_ns()
        self._compute_ns = 0
        self._batch_rows = 0
        self._done_rows = 0
        self._collected: dict[str, NDArray[Any]] = {}

    def deliver(self, part: Slice[Entry], outputs: Arrays, run: Run) -> None:
        """Take one slice's output rows; the last one resolves the future.

        Raises:
            ValueError: the rows do not have the shape of those that came before.
        """
        queue_ns = run.started_ns - self._arrived_ns - self._compute_ns
        self._compute_ns += run.ended_ns - run.started_ns
        self._batch_rows = max(self._batch_rows, run.rows)
        self._done_rows += part.rows
        if part.rows == self.rows:
            self._collected = {name: outputs[name] for name in self.outputs}
        else:
            self._collect(part, outputs)
        if self._done_rows == self.rows and not self.future.done():
            timing = Timing(queue_ns, self._compute_ns, self._batch_rows)
            self.future.set_result(Result(self._collected, timing))

    def fail(self, error: Exception) -> None:
        """Resolve the future with an error, unless it is resolved."""
        if not self.future.done():
            self.future.set_exception(error)

    def _collect(self, part: Slice[Entry], outputs: Arrays) -> None:
        for name in self.outputs:
            if name not in self._collected:
                self._collected[name] = np.empty((self.rows, *outputs[name].shape[1:]), outputs[name].dtype)
            self._collected[name][part.start : part.stop] = outputs[name]
