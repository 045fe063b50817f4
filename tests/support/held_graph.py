"""A graph that runs a batch only when it is let, and remembers every batch; and an observer that remembers what it is
told. They take the place of a slow model where a test decides what happens first."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_server.batching.batch import Waited
from latentserve_server.batching.batcher import BatchLimits
from latentserve_server.engine.engine import Cancellation
from latentserve_server.errors import EngineFailure

BACKSTOP_SECONDS = 30.0
"""What a test waits at most for what must happen; nothing waits this long unless it is broken."""


class HeldGraph:
    """Computes "double" and "square" of the int64 rows of "x"; a batch with a negative row fails."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        """The rows of every batch, in the order in which they entered."""
        self.failed: list[list[int]] = []
        """The batches that failed."""
        self.wanted: list[Sequence[str]] = []
        """The outputs that were asked of every batch."""
        self.cancels = 0
        """How often the run under way was to be ended; it goes on all the same, as one between two operators does."""
        self._permits = threading.Semaphore(0)
        self._entered = threading.Semaphore(0)
        self._is_open = threading.Event()

    def run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], cancellation: Cancellation
    ) -> Mapping[str, NDArray[Any]]:
        """Wait for a permit, then compute."""
        with cancellation.calling(self._note_cancel):
            return self._run(inputs["x"], outputs)

    def _note_cancel(self) -> None:
        self.cancels += 1

    def _run(self, x: NDArray[Any], outputs: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        self.batches.append(x.tolist())
        self.wanted.append(outputs)
        self._entered.release()
        if not self._is_open.is_set() and not self._permits.acquire(timeout=BACKSTOP_SECONDS):
            raise TimeoutError("the test let no batch run")
        if (x < 0).any():
            self.failed.append(x.tolist())
            raise EngineFailure("a row is negative")
        results = {"double": 2 * x, "square": np.stack([x, x * x], axis=1)}
        return {name: results[name] for name in outputs}

    def let_one_run(self) -> None:
        """Let the batch that waits, or else the next one, run."""
        self._permits.release()

    def withdraw_permit(self) -> None:
        """Take back what `let_one_run` gave, if no batch has used it."""
        self._permits.acquire(blocking=False)

    def open(self) -> None:
        """Let every batch run from now on."""
        self._is_open.set()
        self._permits.release()

    async def batch_entered(self) -> None:
        """Wait until one more batch has entered."""
        if not await asyncio.to_thread(self._entered.acquire, timeout=BACKSTOP_SECONDS):
            raise TimeoutError("no batch entered the graph")


class Notes:
    """A batch observer that writes everything down."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.waits: list[float] = []
        self.paddings: list[int] = []
        self.refusals: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()

    def queue_opened(self, rows: Callable[[], int]) -> None:
        """`rows` tells how many rows wait."""
        self._rows = rows

    @property
    def queue_rows(self) -> int:
        """Rows that wait."""
        return self._rows()

    def batch_ran(self, rows: int, padding: int, seconds: float) -> None:
        """A batch ran."""
        self.batches.append(rows)
        self.paddings.append(padding)

    def calls_waited(self, waits: Sequence[Waited]) -> None:
        """Calls were answered."""
        self.waits.extend(seconds for seconds, _ in waits)

    def call_refused(self, reason: str) -> None:
        """A call was not admitted."""
        self.refusals[reason] += 1

    def call_dropped(self, reason: str) -> None:
        """A call was dropped."""
        self.drops[reason] += 1


def batch_limits(max_batch_rows: int, max_queue_rows: int, buckets: Sequence[int] = ()) -> BatchLimits:
    """Limits without one in bytes."""
    return BatchLimits(
        max_batch_rows=max_batch_rows, max_queue_rows=max_queue_rows, max_queue_bytes=1 << 40, buckets=buckets
    )


async def settle(executor: ThreadPoolExecutor) -> None:
    """Let the executor end the work it has now, and the event loop everything that follows from it."""
    await asyncio.get_running_loop().run_in_executor(executor, lambda: None)
    await turn_loop()


async def turn_loop() -> None:
    """Let every callback of the event loop run that is due, and those that they make due."""
    for _ in range(10):
        await asyncio.sleep(0)
