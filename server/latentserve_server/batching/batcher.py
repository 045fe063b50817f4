"""The batcher: many calls' rows in few runs of one graph.

There is no timer: a batch is what piled up while the engine was busy, so an idle server adds no delay. All state
belongs to the event loop; the engine's thread gets a finished batch and hands back arrays, with one wake-up of the loop
a batch. While a batch runs, the next one is joined as soon as it is full; until then it is left open for later callers.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from latentserve_server.batching.batch import Batch, Graph
from latentserve_server.batching.entry import Entry, Run
from latentserve_server.batching.queue import RowQueue, Slice
from latentserve_server.batching.scheduling import WHENEVER, Result, Scheduling
from latentserve_server.batching.wait_estimate import WaitEstimate
from latentserve_server.engine import Arrays
from latentserve_server.errors import DeadlineExpired, EngineFailure, LatentServeError, Overloaded, ShuttingDown
from latentserve_server.workers import Workers

_logger = logging.getLogger(__name__)

_MARGIN = 1.25
"""The expected wait is an average: a call is admitted where a quarter more would still be in time."""

_TOO_LATE = "the deadline passed while the call waited for the engine"


class BatchObserver(Protocol):
    """What is told of every batch and every call, on the event loop."""

    def queue_changed(self, rows: int) -> None:
        """`rows` rows wait now."""
        ...

    def batch_ran(self, rows: int, padding: int, seconds: float) -> None:
        """A batch of `rows` rows, and `padding` rows for nothing, took `seconds` to run."""
        ...

    def call_waited(self, seconds: float) -> None:
        """A call was answered after waiting `seconds` for the engine."""
        ...

    def call_refused(self, reason: str) -> None:
        """A call was not admitted: "full", or "deadline" where it would have waited too long."""
        ...

    def call_dropped(self, reason: str) -> None:
        """A call was dropped before all of its rows ran: "deadline" or "cancelled"."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """How large batches and their queue may be."""

    max_batch_rows: int
    max_queue_rows: int
    max_queue_bytes: int
    buckets: Sequence[int] = ()
    """Row counts that batches are padded to, ascending, the last one `max_batch_rows`; none: no padding."""

    def bucket(self, rows: int) -> int:
        """What so many rows are padded to."""
        return self.buckets[bisect_left(self.buckets, rows)] if self.buckets else rows


class Batcher:
    """Gathers the rows of many calls for one graph. Made and used on one event loop; `start` before the first call."""

    def __init__(
        self, graph: Graph, executor: Executor, workers: Workers, observer: BatchObserver, limits: BatchLimits
    ) -> None:
        """`executor` is the engine's single thread, which batchers of one model share; `workers` join rows."""
        self._graph = graph
        self._executor = executor
        self._workers = workers
        self._observer = observer
        self._limits = limits
        self._queue: RowQueue[Entry] = RowQueue(
            max_batch_rows=limits.max_batch_rows, max_rows=limits.max_queue_rows, max_bytes=limits.max_queue_bytes
        )
        self._wait_estimate = WaitEstimate(limits.max_batch_rows)
        self._arrival = asyncio.Event()
        self._full = asyncio.Event()
        self._waiting: set[Entry] = set()
        self._running: Batch | None = None
        self._runner: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to run batches."""
        self._runner = asyncio.get_running_loop().create_task(self._run_batches())

    async def submit(self, inputs: Arrays, outputs: Sequence[str], scheduling: Scheduling = WHENEVER) -> Result:
        """The named outputs for every row of inputs, in order. All inputs have the same, positive number of rows.

        A caller that is cancelled leaves the queue.

        Raises:
            Overloaded: the queue is full, or the wait is expected to go beyond the deadline.
            DeadlineExpired: the deadline passed before all rows had entered the engine.
            ShuttingDown: the batcher was closed. EngineFailure: a batch with rows of this call did not run.
            NotFinite: an output holds NaN or infinity.
        """
        if self._closing:
            raise ShuttingDown("the model takes no more calls")
        entry = Entry(inputs, outputs, scheduling, asyncio.get_running_loop().create_future())
        self._admit(entry)
        try:
            result = await entry.future
        except asyncio.CancelledError:
            self._observer.call_dropped("cancelled")
            if self._running is not None and not self._running.wanted:
                self._running.cancel()
            raise
        finally:
            self._waiting.discard(entry)
            self._queue.withdraw(entry)
            self._observer.queue_changed(self._queue.rows)
            del entry  # its future's error has this frame in its traceback
        self._observer.call_waited(result.timing.queue_ns / 1e9)
        return result

    async def close(self) -> None:
        """Let the running batch end, refuse what still waits, and stop."""
        self._closing = True
        self._arrival.set()
        self._full.set()
        if self._runner is not None:
            await self._runner
        for entry in self._waiting:
            entry.fail(ShuttingDown("the model was closed while the call waited"))

    def _admit(self, entry: Entry) -> None:
        now = asyncio.get_running_loop().time()
        if entry.deadline <= now:
            self._observer.call_dropped("deadline")
            raise DeadlineExpired(_TOO_LATE)
        idle = self._running is None and not self._queue.rows
        wait = 0.0 if idle else self._wait_estimate.wait(self._queue.batches_until(entry), now)
        if now + _MARGIN * wait > entry.deadline:
            self._observer.call_refused("deadline")
            raise Overloaded(f"the wait of about {wait:.3f} s would go beyond the deadline", retry_after=wait)
        try:
            self._queue.admit(entry)
        except Overloaded as error:
            self._observer.call_refused("full")
            raise Overloaded(str(error), retry_after=wait) from error
        self._waiting.add(entry)
        self._observer.queue_changed(self._queue.rows)
        self._arrival.set()
        if self._queue.fills_a_batch:
            self._full.set()

    async def _run_batches(self) -> None:
        batch: Batch | None = None
        while not self._closing or batch is not None:
            batch = await (self._refresh(batch) if batch else self._join(self._take()))
            if batch is not None:
                batch = await self._run(batch)
            elif not self._queue.rows and not self._closing:
                self._arrival.clear()
                await self._arrival.wait()

    def _take(self) -> Sequence[Slice[Entry]]:
        slices = self._queue.gather(self._wanted)
        self._observer.queue_changed(self._queue.rows)
        return slices

    async def _refresh(self, batch: Batch) -> Batch | None:
        """A batch that was joined early, without the callers who have gone since."""
        slices = [part for part in batch.slices if self._wanted(part.ticket)]
        return batch if len(slices) == len(batch.slices) else await self._join(slices)

    async def _join(self, slices: Sequence[Slice[Entry]]) -> Batch | None:
        if not slices:
            return None
        batch = Batch(slices)
        try:
            return await self._workers.run(batch.size_bytes, batch.join, self._limits.bucket(batch.rows))
        except Exception as error:
            _logger.exception("the rows of a batch do not fit together")
            batch.fail(EngineFailure(f"the rows of a batch do not fit together: {error}"))
            return None

    async def _run(self, batch: Batch) -> Batch | None:
        """Run the batch and answer its callers; meanwhile gather the next one, if it fills up."""
        loop = asyncio.get_running_loop()
        self._running = batch
        self._wait_estimate.dispatch(loop.time())
        run = loop.run_in_executor(self._executor, batch.run, self._graph)
        slices = await self._take_when_full(run)
        following = loop.create_task(self._join(slices)) if slices else None
        try:
            results = await run
            self._wait_estimate.finish(batch.rows, loop.time())
            self._deliver(batch, results)
        except LatentServeError as error:
            batch.fail(error)
        except Exception as error:
            _logger.exception("a batch of %d rows failed", batch.rows)
            batch.fail(EngineFailure(f"the engine failed: {error}"))
        finally:
            self._running = None
            self._wait_estimate.discard()
            del run  # its error has this frame in its traceback
        return await following if following else None  # only now: answers do not wait for others' rows

    async def _take_when_full(self, run: asyncio.Future[Run]) -> Sequence[Slice[Entry]]:
        if not self._queue.fills_a_batch:
            self._full.clear()
            full = asyncio.ensure_future(self._full.wait())
            await asyncio.wait((run, full), return_when=asyncio.FIRST_COMPLETED)
            full.cancel()
        return self._take() if not run.done() and not self._closing else ()

    def _deliver(self, batch: Batch, run: Run) -> None:
        self._observer.batch_ran(batch.rows, batch.padding, (run.ended_ns - run.started_ns) / 1e9)
        batch.deliver(run)

    def _wanted(self, entry: Entry) -> bool:
        if entry.future.done():
            return False
        if entry.deadline <= asyncio.get_running_loop().time():
            self._observer.call_dropped("deadline")
            entry.fail(DeadlineExpired(_TOO_LATE))
            return False
        return True
