"""The batcher: many calls' rows in few runs of one graph, short ones made on the event loop.

There is no timer: a batch is what piled up while the engine was busy, so an idle server adds no delay. All state
belongs to the event loop; the engine's thread gets a joined batch and hands back arrays, with one wake-up of the loop a
batch. While a batch runs, the next one is joined as soon as it is full; until then it is left open for later callers.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from latentserve_server.batching.batch import Batch, Entry, Graph, Inputs, Run, Wait, Waited, Watch
from latentserve_server.batching.queue import RowQueue, RunTimes, Slice, WaitEstimate
from latentserve_server.batching.scheduling import NEVER, WHENEVER, Result, Scheduling
from latentserve_server.engine.device import EngineThread
from latentserve_server.errors import DeadlineExpired, EngineFailure, LatentServeError, Overloaded, ShuttingDown
from latentserve_server.workers import Workers

_logger = logging.getLogger(__name__)

_MARGIN = 1.25
"""The expected wait is an average: a call is admitted where a quarter more would still be in time."""

_SHORT_SECONDS = 2e-3
"""What a run may take on the event loop, which does nothing else meanwhile."""

_SHORT_BYTES = 1 << 18
"""What may be gone over on the event loop to join a batch whose run is made there, too."""

_TOO_LATE = "the deadline passed while the call waited for the engine"


class BatchObserver(Protocol):
    """What is told of every batch and every call, on the event loop."""

    def queue_opened(self, rows: Callable[[], int]) -> None:
        """`rows` tells how many rows wait."""
        ...

    def batch_ran(self, rows: int, padding: int, seconds: float) -> None:
        """A batch of `rows` rows, and `padding` rows for nothing, took `seconds` to run."""
        ...

    def calls_waited(self, waits: Sequence[Waited]) -> None:
        """Calls were answered after waiting for the engine."""
        ...

    def call_refused(self, reason: str) -> None:
        """A call was not admitted: "full", or "deadline" where it would have waited too long."""
        ...

    def call_dropped(self, reason: str) -> None:
        """A call was dropped before all of its rows ran: "deadline" or "cancelled"."""
        ...


class BatchTraces(Protocol):
    """What follows calls that are traced, on the event loop."""

    def wait(self, rows: int) -> Wait | None:
        """Follow so many rows of the call that is being answered; None where that is not traced."""
        ...

    def batch_gathered(self, batch: Batch) -> None:
        """Rows have left the queue for the engine."""
        ...

    def batch_ended(self, batch: Batch, outcome: Run | Exception) -> None:
        """The batch ran, or why it did not; its calls are told next."""
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
        self,
        graph: Graph,
        executor: Executor,
        workers: Workers,
        observer: BatchObserver,
        limits: BatchLimits,
        here: EngineThread | None = None,
        watch: Watch | None = None,
        traces: BatchTraces | None = None,
    ) -> None:
        """`executor` is the engine's single thread, which batchers of one model share; `workers` join rows.

        `here` is that thread, for a graph whose run takes no longer for any values: where one is known to be short, it
        is made on the event loop. `watch` sees what every run gives, where it is made.
        """
        self._loop = asyncio.get_running_loop()
        self._graph = graph
        self._executor = executor
        self._workers = workers
        self._observer = observer
        self._limits = limits
        self._here = here
        self._watch = watch
        self._traces = traces
        self._queue: RowQueue[Entry] = RowQueue(
            max_batch_rows=limits.max_batch_rows, max_rows=limits.max_queue_rows, max_bytes=limits.max_queue_bytes
        )
        queue = self._queue
        observer.queue_opened(lambda: queue.rows)  # and not this batcher, which the observer would then keep
        self._wait_estimate = WaitEstimate(limits.max_batch_rows)
        self._run_times = RunTimes()
        self._arrival = asyncio.Event()
        self._full = asyncio.Event()
        self._running: Batch | None = None
        self._runner: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to run batches."""
        self._runner = self._loop.create_task(self._run_batches())

    async def submit(self, inputs: Inputs, outputs: Sequence[str], scheduling: Scheduling = WHENEVER) -> Result:
        """The named outputs for every row of inputs, in order. All inputs have the same, positive number of rows.

        A caller that is cancelled leaves the queue.

        Raises:
            Overloaded: the queue is full, or the wait is expected to go beyond the deadline, or the caller has as many
                rows as it may have.
            DeadlineExpired: the deadline passed before all rows had entered the engine.
            ShuttingDown: the batcher was closed. EngineFailure: a batch with rows of this call did not run.
            NotFinite: an output holds NaN or infinity.
        """
        if self._closing:
            raise ShuttingDown("the model takes no more calls")
        caller = scheduling.caller
        if caller is not None and scheduling.is_patient:
            await caller.wait_for_rows(len(next(iter(inputs.values()))))
        entry = Entry(inputs, outputs, scheduling, loop=self._loop)
        if caller is not None:
            caller.check_rows(entry.rows)
        if self._traces is not None:
            entry.wait = self._traces.wait(entry.rows)
        self._admit(entry)
        if caller is not None:
            caller.enter(entry.rows)
        try:
            return await entry
        except asyncio.CancelledError:
            self._withdraw(entry)
            raise
        finally:
            if caller is not None:
                caller.leave(entry.rows)
            if entry.wait is not None:
                entry.wait.leave()
            del entry  # its error has this frame in its traceback

    def _withdraw(self, entry: Entry) -> None:
        """Give a call up whose caller has gone; it is told nothing any more. Harmless where it has been told."""
        if entry.give_up():
            return
        self._observer.call_dropped("cancelled")
        self._queue.withdraw(entry)
        if self._running is not None and not self._running.wanted:
            self._running.cancel()

    async def close(self) -> None:
        """Let the running batch end, refuse what still waits, and stop."""
        self._closing = True
        self._arrival.set()
        self._full.set()
        if self._runner is not None:
            await self._runner
        for entry in self._queue.tickets():
            entry.settle(ShuttingDown("the model was closed while the call waited"))
            self._queue.withdraw(entry)

    def _admit(self, entry: Entry) -> None:
        if entry.deadline < NEVER:
            self._check_in_time(entry)
        try:
            self._queue.admit(entry)
        except Overloaded as error:
            self._observer.call_refused("full")
            raise Overloaded(str(error), retry_after=self._expected_wait(entry, self._loop.time())) from error
        self._arrival.set()
        if self._queue.fills_a_batch:
            self._full.set()

    def _check_in_time(self, entry: Entry) -> None:
        now = self._loop.time()
        if entry.deadline <= now:
            self._observer.call_dropped("deadline")
            raise DeadlineExpired(_TOO_LATE)
        wait = self._expected_wait(entry, now)
        if now + _MARGIN * wait > entry.deadline:
            self._observer.call_refused("deadline")
            raise Overloaded(f"the wait of about {wait:.3f} s would go beyond the deadline", retry_after=wait)

    def _expected_wait(self, entry: Entry, now: float) -> float:
        if self._running is None and not self._queue.rows:
            return 0.0
        return self._wait_estimate.wait(self._queue.batches_until(entry), now)

    async def _run_batches(self) -> None:
        joined: Batch | None = None
        while not self._closing or joined is not None:
            slices = self._still_wanted(joined) if joined else self._take()
            batch = joined if joined and len(slices) == len(joined.slices) else await self._join(slices)
            joined = None
            if batch is not None:
                outcome, following = await self._run(batch)
                self._deliver(batch, outcome)
                if following is not None:
                    joined = await following
                else:
                    await asyncio.sleep(0)  # for what came meanwhile
            elif not self._queue.rows and not self._closing:
                self._arrival.clear()
                await self._arrival.wait()

    def _take(self) -> Sequence[Slice[Entry]]:
        now = self._loop.time()
        return self._queue.gather(lambda entry: self._is_wanted(entry, now))

    def _still_wanted(self, batch: Batch) -> Sequence[Slice[Entry]]:
        """What is left of a batch that was joined early, without the callers who have gone since."""
        now = self._loop.time()
        return [part for part in batch.slices if self._is_wanted(part.ticket, now)]

    async def _join(self, slices: Sequence[Slice[Entry]]) -> Batch | None:
        if not slices:
            return None
        batch = Batch(slices)
        if self._traces is not None:
            self._traces.batch_gathered(batch)
        bucket = self._limits.bucket(batch.rows)
        try:
            if self._is_short(bucket) and batch.work_bytes < _SHORT_BYTES:
                return batch.join(bucket)
            return await self._workers.run(batch.work_bytes, batch.join, bucket)
        except Exception as error:
            _logger.exception("the rows of a batch do not fit together")
            failure = EngineFailure(f"the rows of a batch do not fit together: {error}")
            if self._traces is not None:
                self._traces.batch_ended(batch, failure)
            batch.fail(failure)
            return None

    async def _run(self, batch: Batch) -> tuple[Run | Exception, asyncio.Task[Batch | None] | None]:
        """What the run gives, or why it failed, and the next batch, where that has filled up and is being joined."""
        self._running = batch
        self._wait_estimate.dispatch(self._loop.time())
        following: asyncio.Task[Batch | None] | None = None
        run: asyncio.Future[Run] | None = None
        try:
            if self._here is not None and self._is_short(batch.rows + batch.padding):
                return batch.run(self._graph, self._watch), None
            run = self._loop.run_in_executor(self._executor, batch.run, self._graph, self._watch)
            slices = await self._take_when_full(run)
            following = self._loop.create_task(self._join(slices)) if slices else None
            return await run, following
        except LatentServeError as error:
            return error, following
        except Exception as error:
            _logger.exception("a batch of %d rows failed", batch.rows)
            return EngineFailure(f"the engine failed: {error}"), following
        finally:
            self._running = None
            run = None  # its error has this frame in its traceback

    async def _take_when_full(self, run: asyncio.Future[Run]) -> Sequence[Slice[Entry]]:
        if not self._queue.fills_a_batch:
            self._full.clear()
            full = asyncio.ensure_future(self._full.wait())
            await asyncio.wait((run, full), return_when=asyncio.FIRST_COMPLETED)
            full.cancel()
        return self._take() if not run.done() and not self._closing else ()

    def _is_short(self, rows: int) -> bool:
        """Whether a run of so many rows is made here: a way to the engine's thread and back would take as long."""
        return self._here is not None and self._here.is_idle and self._run_times.expected(rows) < _SHORT_SECONDS

    def _deliver(self, batch: Batch, outcome: Run | Exception) -> None:
        if self._traces is not None:
            self._traces.batch_ended(batch, outcome)
        if isinstance(outcome, Run):
            seconds = (outcome.ended_ns - outcome.started_ns) / 1e9
            self._wait_estimate.finish(batch.rows, self._loop.time())
            self._run_times.note(batch.rows + batch.padding, (outcome.checked_ns - outcome.started_ns) / 1e9)
            self._observer.batch_ran(batch.rows, batch.padding, seconds)
            self._observer.calls_waited(batch.deliver(outcome))
        else:
            self._wait_estimate.discard()
            batch.fail(outcome)
        for part in batch.slices:  # an error in this batch has ended the rest of its calls, too
            if part.ticket.done() and part.ticket.remaining:
                self._queue.withdraw(part.ticket)

    def _is_wanted(self, entry: Entry, now: float) -> bool:
        if entry.done():
            return False
        if entry.deadline <= now:
            self._observer.call_dropped("deadline")
            entry.settle(DeadlineExpired(_TOO_LATE))
            return False
        return True
