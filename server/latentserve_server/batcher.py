"""Rows in, rows out: many calls' rows become few runs of one graph.

There is no timer: a batch is what piled up while the engine was busy, so an idle server adds no delay. All state
belongs to the event loop; the engine's thread gets a finished batch and hands back arrays, with one wake-up of the loop
a batch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latentserve_server.errors import DeadlineExpired, EngineFailure, LatentServeError, ShuttingDown
from latentserve_server.row_queue import RowQueue, Slice, Ticket

_logger = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]
"""Tensors of a graph by name; axis 0 of each counts rows."""


class Graph(Protocol):
    """What runs a batch, on the engine's thread."""

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """Compute the named outputs, one row each for every row of the inputs."""
        ...


class BatchObserver(Protocol):
    """What is told of every batch and every call, on the event loop."""

    def queue_changed(self, rows: int) -> None:
        """`rows` rows wait now."""
        ...

    def batch_ran(self, rows: int, seconds: float) -> None:
        """A batch of `rows` rows took `seconds` to run."""
        ...

    def call_waited(self, seconds: float) -> None:
        """A call was answered after waiting `seconds` for the engine."""
        ...

    def call_dropped(self, reason: str) -> None:
        """A call was dropped before all of its rows ran: "deadline" or "cancelled"."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """A call's output rows and what they cost."""

    outputs: Arrays
    queue_ns: int
    """Time from admission to the last row's entry into the engine, less this call's own computing, in nanoseconds."""
    compute_ns: int
    """Time that batches with rows of this call ran, in nanoseconds."""


class _Call(Ticket):
    """A ticket with its arrays and the future that its caller awaits."""

    def __init__(
        self, inputs: Arrays, outputs: Sequence[str], deadline: float, future: asyncio.Future[Outcome]
    ) -> None:
        super().__init__(len(next(iter(inputs.values()))))
        self.inputs = inputs
        self.outputs = outputs
        self.deadline = deadline
        self.future = future
        self._arrived_ns = time.monotonic_ns()
        self._compute_ns = 0
        self._done_rows = 0
        self._collected: dict[str, NDArray[Any]] = {}

    def deliver(self, part: Slice[_Call], outputs: Arrays, ran: _Ran) -> Outcome | None:
        """Take one slice's output rows; the call's outcome once all have come."""
        queue_ns = ran.started_ns - self._arrived_ns - self._compute_ns
        self._compute_ns += ran.ended_ns - ran.started_ns
        self._done_rows += part.rows
        if part.rows == self.rows:
            return Outcome({name: outputs[name] for name in self.outputs}, queue_ns, self._compute_ns)
        for name in self.outputs:
            if name not in self._collected:
                self._collected[name] = np.empty((self.rows, *outputs[name].shape[1:]), outputs[name].dtype)
            self._collected[name][part.start : part.stop] = outputs[name]
        if self._done_rows < self.rows:
            return None
        return Outcome(self._collected, queue_ns, self._compute_ns)


class Batcher:
    """Gathers the rows of many calls for one graph. Made and used on one event loop; `start` before the first call."""

    def __init__(
        self, graph: Graph, executor: Executor, observer: BatchObserver, *, max_batch_rows: int, max_queue_rows: int
    ) -> None:
        """`executor` is the engine's single thread; batchers of one model and device share it."""
        self._graph = graph
        self._executor = executor
        self._observer = observer
        self._queue: RowQueue[_Call] = RowQueue(max_batch_rows=max_batch_rows, max_rows=max_queue_rows)
        self._arrival = asyncio.Event()
        self._waiting: set[_Call] = set()
        self._runner: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to run batches."""
        self._runner = asyncio.get_running_loop().create_task(self._run_batches())

    async def submit(self, inputs: Arrays, outputs: Sequence[str], deadline: float = float("inf")) -> Outcome:
        """The named outputs for every row of inputs, in order. All inputs have the same, positive number of rows.

        `deadline` is a time of the event loop's clock, in seconds. A caller that is cancelled leaves the queue.

        Raises:
            Overloaded: the queue is full. DeadlineExpired: the deadline passed before all rows had entered the engine.
            ShuttingDown: the batcher was closed. EngineFailure: a batch with rows of this call did not run.
        """
        if self._closing:
            raise ShuttingDown("the model takes no more calls")
        loop = asyncio.get_running_loop()
        call = _Call(inputs, outputs, deadline, loop.create_future())
        self._queue.admit(call)
        self._waiting.add(call)
        self._observer.queue_changed(self._queue.rows)
        self._arrival.set()
        try:
            outcome = await call.future
        except asyncio.CancelledError:
            self._observer.call_dropped("cancelled")
            raise
        finally:
            self._waiting.discard(call)
            self._queue.withdraw(call)
            self._observer.queue_changed(self._queue.rows)
        self._observer.call_waited(outcome.queue_ns / 1e9)
        return outcome

    async def close(self) -> None:
        """Let the running batch end, refuse what still waits, and stop."""
        self._closing = True
        self._arrival.set()
        if self._runner is not None:
            await self._runner
        for call in self._waiting:
            _fail(call, ShuttingDown("the model was closed while the call waited"))

    async def _run_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            batch = self._queue.gather(self._wanted)
            if not batch:
                self._arrival.clear()
                await self._arrival.wait()
                continue
            self._observer.queue_changed(self._queue.rows)
            try:
                ran = await loop.run_in_executor(self._executor, _run_batch, self._graph, batch)
            except LatentServeError as error:
                _fail_all(batch, error)
            except Exception as error:
                _logger.exception("a batch of %d rows failed", sum(part.rows for part in batch))
                _fail_all(batch, EngineFailure(f"the engine failed: {error}"))
            else:
                self._deliver(batch, ran)

    def _wanted(self, call: _Call) -> bool:
        if call.future.done():
            return False
        if call.deadline <= asyncio.get_running_loop().time():
            self._observer.call_dropped("deadline")
            _fail(call, DeadlineExpired("the deadline passed while the call waited for the engine"))
            return False
        return True

    def _deliver(self, batch: Sequence[Slice[_Call]], ran: _Ran) -> None:
        self._observer.batch_ran(sum(part.rows for part in batch), (ran.ended_ns - ran.started_ns) / 1e9)
        row = 0
        for part in batch:
            rows = {name: array[row : row + part.rows] for name, array in ran.outputs.items()}
            row += part.rows
            try:
                outcome = part.ticket.deliver(part, rows, ran)
            except ValueError as error:
                _fail(part.ticket, EngineFailure(f"the graph's rows change their shape between batches: {error}"))
                continue
            if outcome is not None and not part.ticket.future.done():
                part.ticket.future.set_result(outcome)


@dataclass(frozen=True, slots=True)
class _Ran:
    """A batch's outputs and when it ran, on the monotonic clock."""

    outputs: Arrays
    started_ns: int
    ended_ns: int


def _run_batch(graph: Graph, batch: Sequence[Slice[_Call]]) -> _Ran:
    """Join the slices' rows, run them, and check that as many came back. Runs on the engine's thread."""
    started_ns = time.monotonic_ns()
    names = sorted({name for part in batch for name in part.ticket.outputs})
    inputs = {
        name: _join([part.ticket.inputs[name][part.start : part.stop] for part in batch])
        for name in batch[0].ticket.inputs
    }
    outputs = graph.run(inputs, names)
    rows = sum(part.rows for part in batch)
    for name in names:
        if len(outputs[name]) != rows:
            raise EngineFailure(f"output {name} has {len(outputs[name])} rows where {rows} went in")
    return _Ran(outputs, started_ns, time.monotonic_ns())


def _join(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.ascontiguousarray(parts[0]) if len(parts) == 1 else np.concatenate(parts)


def _fail(call: _Call, error: LatentServeError) -> None:
    if not call.future.done():
        call.future.set_exception(error)


def _fail_all(batch: Sequence[Slice[_Call]], error: LatentServeError) -> None:
    for part in batch:
        _fail(part.ticket, error)
