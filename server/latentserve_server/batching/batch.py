"""A batch: calls in the queue, slices of them joined for one run, and its outputs given back to each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from latentserve.pixel_range import clip_pixels
from latentserve_server.batching.queue import Slice, Ticket
from latentserve_server.batching.scheduling import Result, Scheduling, Timing
from latentserve_server.engine import Arrays, Cancellation
from latentserve_server.errors import EngineFailure, NotFinite
from latentserve_server.latent.noise import Draw, join_rows
from latentserve_server.latent.scores import SCORES

Inputs: TypeAlias = Mapping[str, NDArray[Any] | Draw]
"""The inputs of a call by their names: arrays, or latents that are drawn when they are needed."""

Watch: TypeAlias = Callable[[Arrays], None]
"""What sees the outputs of a run, without the rows that filled it up."""

Waited: TypeAlias = tuple[float, str]
"""The seconds that a call waited for the engine, and the id of its trace; empty where it is not traced."""

_MADE_FROM: Mapping[str, str] = MappingProxyType({"image_uint8": "image"})
"""uint8 outputs, which cannot hold NaN, and the float output that each is made from."""


class Graph(Protocol):
    """What runs a batch.

    Its "image" is clipped to [0, 1] afterwards. Graphs that the export writes clip for themselves; those of older
    bundles and of other exporters need not: what they saturate may be 1.0000002.
    """

    def run(self, inputs: Arrays, outputs: Sequence[str], cancellation: Cancellation) -> Arrays:
        """Compute the named outputs, one row each for every row of the inputs; cancelled, fail soon."""
        ...


class Wait(Protocol):
    """What follows a call that is traced through the queue."""

    @property
    def trace_id(self) -> str:
        """That of the call: 32 hexadecimal digits."""
        ...

    def leave(self) -> None:
        """The call has its result, or waits no longer. Harmless twice."""
        ...


class AwaitedResult(asyncio.Future[Result]):
    """The result of a call, for a task or for what has set `resume`, which goes on as soon as there is one."""

    resume: Callable[[], None] | None = None

    def settle(self, outcome: Result | Exception) -> bool:
        """Take the result or the error, and tell who waits; False where there is one, or nobody waits any more."""
        if self.done():
            return False
        if isinstance(outcome, Exception):
            self.set_exception(outcome)
        else:
            self.set_result(outcome)
        if self.resume is not None:
            resume, self.resume = self.resume, None
            resume()
        return True


class Entry(AwaitedResult, Ticket):
    """One waiting call: its rows in the queue, and its result, which is waited for."""

    def __init__(
        self,
        inputs: Inputs,
        outputs: Sequence[str],
        scheduling: Scheduling,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        AwaitedResult.__init__(self, loop=loop)
        first = next(iter(inputs.values()))
        size = first.nbytes if len(inputs) == 1 else sum(array.nbytes for array in inputs.values())
        Ticket.__init__(self, len(first), size_bytes=size, bulk=scheduling.bulk, caller=scheduling.caller)
        self.work_bytes = size - first.nbytes + first.work_bytes if isinstance(first, Draw) else size
        self.inputs = inputs
        self.outputs = outputs
        self.deadline = scheduling.deadline
        self._arrived_ns = time.monotonic_ns()
        self._collected: _Collected | None = None
        self.wait: Wait | None = None
        """Where it is traced."""

    def deliver(self, part: Slice[Entry], run: Run, begin: int) -> int | None:
        """Take one slice's output rows, which begin at `begin`; the last one settles the call.

        Returns what the call has waited, in nanoseconds, once it is settled.

        Raises:
            ValueError: the rows do not have the shape of those that came before.
        """
        end = begin + part.rows
        outputs = {name: run.outputs[name][begin:end] for name in self.outputs}
        computed = Timing(run.started_ns - self._arrived_ns, run.ended_ns - run.started_ns, run.rows)
        if part.rows != self.rows:
            self._collected = self._collected or _Collected(self.rows, outputs)
            computed = self._collected.add(part.start, part.rows, outputs, computed)
            if self._collected.missing_rows:
                return None
            outputs = self._collected.outputs
        return computed.queue_ns if self.settle(Result(outputs, computed)) else None

    def give_up(self) -> bool:
        """Wait for nothing any more; returns whether the result had come."""
        return not self.cancel() and not self.cancelled()


class _Collected:
    """The output rows of a call that is cut, as far as they have come."""

    def __init__(self, rows: int, first: Arrays) -> None:
        self.missing_rows = rows
        self.outputs = {name: np.empty((rows, *part.shape[1:]), part.dtype) for name, part in first.items()}
        self._compute_ns = 0
        self._batch_rows = 0

    def add(self, start: int, rows: int, outputs: Arrays, timing: Timing) -> Timing:
        """Put a slice's rows in their place; returns the timing of all so far.

        Raises:
            ValueError: the rows do not have the shape of those that came before.
        """
        for name, part in outputs.items():
            self.outputs[name][start : start + rows] = part
        queue_ns = timing.queue_ns - self._compute_ns
        self.missing_rows -= rows
        self._compute_ns += timing.compute_ns
        self._batch_rows = max(self._batch_rows, timing.batch_rows)
        return Timing(queue_ns, self._compute_ns, self._batch_rows)


@dataclass(frozen=True, slots=True)
class Run:
    """A run's outputs, when it was on the monotonic clock, and its rows, padding left out."""

    outputs: Arrays
    spoiled: Spoiled
    started_ns: int
    ended_ns: int
    checked_ns: int
    """When the outputs had been looked through, too."""
    rows: int


class Batch:
    """Slices of calls that run together."""

    gathered_ns = 0
    """When they left the queue, on the monotonic clock, where calls are traced."""

    def __init__(self, slices: Sequence[Slice[Entry]]) -> None:
        self.slices = slices
        self.rows = self.work_bytes = 0
        for part in slices:
            self.rows += part.rows
            self.work_bytes += part.ticket.work_bytes * part.rows // part.ticket.rows
        self.padding = 0
        self._inputs: Arrays = {}
        self._cancellation = Cancellation()

    @property
    def wanted(self) -> bool:
        """Whether any caller still waits for a row of it."""
        return not all(part.ticket.done() for part in self.slices)

    def cancel(self) -> None:
        """End the run, under way or to come."""
        self._cancellation.cancel()

    def join(self, bucket: int) -> Batch:
        """Join the slices' inputs and pad them with zeros to `bucket` rows; returns itself."""
        self.padding = bucket - self.rows
        self._inputs = {
            name: _join([_rows_of(part, name) for part in self.slices], bucket) for name in self.slices[0].ticket.inputs
        }
        return self

    def run(self, graph: Graph, watch: Watch | None = None) -> Run:
        """Run the graph on the joined rows, on the engine's thread or, where the run is short, on the event loop.

        `watch` sees the outputs there, where all are finite.

        Raises:
            EngineFailure: not as many rows came back as went in, or every caller has gone before the run began.
        """
        if not self.wanted:
            raise EngineFailure("every caller of the batch has gone")
        started_ns = time.monotonic_ns()
        wanted = {name for part in self.slices for name in part.ticket.outputs}
        computed = to_compute(wanted)
        outputs = compute(graph, self._inputs, computed, self.rows + self.padding, self._cancellation)
        ended_ns = time.monotonic_ns()
        spoiled = Spoiled.among(outputs, computed)
        if watch is not None and not spoiled:
            watch({name: rows[: self.rows] for name, rows in outputs.items()})
        given = as_given(outputs, wanted)
        return Run(given, spoiled, started_ns, ended_ns, time.monotonic_ns(), self.rows)

    def deliver(self, run: Run) -> Sequence[Waited]:
        """Give every call its own rows, or the error of the first one that is not finite.

        Returns what the calls waited that this batch has answered.
        """
        row, waits = 0, list[Waited]()
        for part in self.slices:
            begin, row = row, row + part.rows
            if run.spoiled and (spoiled := run.spoiled.first(part.ticket.outputs, begin, row)) is not None:
                part.ticket.settle(NotFinite(part.start + spoiled[0], spoiled[1]))
                continue
            try:
                if (queue_ns := part.ticket.deliver(part, run, begin)) is not None:
                    wait = part.ticket.wait
                    waits.append((queue_ns / 1e9, "" if wait is None else wait.trace_id))
            except ValueError as error:
                part.ticket.settle(EngineFailure(f"the graph's rows change their shape between batches: {error}"))
        return waits

    def fail(self, error: Exception) -> None:
        """Give every call the error, without what led to it: those frames hold the batch, and so the calls."""
        error.__cause__ = error.__context__ = None
        for part in self.slices:
            part.ticket.settle(error.with_traceback(None))


class Spoiled:
    """The rows of one batch that are not finite, by output. Each output is checked once; its rows are looked at only
    where that fails."""

    def __init__(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        self._rows = {
            name: ~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
            for name, rows in outputs.items()
            if rows.dtype.kind == "f" and not np.isfinite(rows).all()
        }

    @classmethod
    def among(cls, outputs: Arrays, names: Iterable[str]) -> Spoiled:
        """Those in the named outputs. Scores may be infinite."""
        return cls({name: outputs[name] for name in names if name not in SCORES})

    def __bool__(self) -> bool:
        return bool(self._rows)

    def every(self) -> Mapping[int, str]:
        """Every row that is spoiled, and in which output."""
        return {int(row): name for name, spoiled in self._rows.items() for row in np.flatnonzero(spoiled)}

    def first(self, outputs: Iterable[str], start: int, stop: int) -> tuple[int, str] | None:
        """The first row from `start` to `stop` that is spoiled in one of these outputs, from 0 on, and in which."""
        found = [
            (int(rows.argmax()), name)
            for name in outputs
            if (spoiled := self._rows.get(_MADE_FROM.get(name, name))) is not None
            and (rows := spoiled[start:stop]).any()
        ]
        return min(found, default=None)


def to_compute(wanted: Collection[str]) -> Sequence[str]:
    """The wanted outputs, and those that tell whether they are finite."""
    return sorted({*wanted, *(_MADE_FROM[name] for name in wanted if name in _MADE_FROM)})


def compute(graph: Graph, inputs: Arrays, names: Sequence[str], rows: int, cancellation: Cancellation) -> Arrays:
    """The named outputs for so many rows of inputs, and what else the graph gives.

    Raises:
        EngineFailure: the graph did not run, was cancelled, or gave back another number of rows.
    """
    outputs = graph.run(inputs, names, cancellation)
    for name in names:
        if len(outputs[name]) != rows:
            raise EngineFailure(f"output {name} has {len(outputs[name])} rows where {rows} went in")
    return outputs


def as_given(outputs: Arrays, wanted: Collection[str]) -> dict[str, NDArray[Any]]:
    """The wanted ones of what `compute` gave, as callers have them: pixels are clipped to [0, 1]."""
    return {name: clip_pixels(outputs[name]) if name == "image" else outputs[name] for name in wanted}


def _rows_of(part: Slice[Entry], name: str) -> NDArray[Any] | Draw:
    rows = part.ticket.inputs[name]
    return rows if part.rows == part.ticket.rows else rows[part.start : part.stop]


def _join(parts: Sequence[NDArray[Any] | Draw], rows: int) -> NDArray[Any]:
    """The parts one after another, and zeros up to so many rows; what is to be drawn is drawn together."""
    first = parts[0]
    if len(parts) == 1 and len(first) == rows and not isinstance(first, Draw):
        return np.ascontiguousarray(first)
    joined = np.empty((rows, *first.shape[1:]), first.dtype)
    filled = sum(map(len, parts))
    join_rows(parts, joined[:filled])
    joined[filled:] = 0
    return joined
