"""One batch: slices of calls joined for a run, and its outputs given back to them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latentserve_server.batching.entry import Entry, Run
from latentserve_server.batching.finite_rows import Spoiled, with_witnesses
from latentserve_server.batching.queue import Slice
from latentserve_server.engine import Arrays
from latentserve_server.engine.cancellation import Cancellation
from latentserve_server.errors import EngineFailure, NotFinite


class Graph(Protocol):
    """What runs a batch, on the engine's thread."""

    def run(self, inputs: Arrays, outputs: Sequence[str], cancellation: Cancellation) -> Arrays:
        """Compute the named outputs, one row each for every row of the inputs; cancelled, fail soon."""
        ...


class Batch:
    """Slices of calls that run together."""

    def __init__(self, slices: Sequence[Slice[Entry]]) -> None:
        self.slices = slices
        self.rows = sum(part.rows for part in slices)
        self.size_bytes = sum(part.ticket.size_bytes * part.rows // part.ticket.rows for part in slices)
        self.padding = 0
        self._inputs: Arrays = {}
        self._cancellation = Cancellation()

    @property
    def wanted(self) -> bool:
        """Whether any caller still waits for a row of it."""
        return any(not part.ticket.future.done() for part in self.slices)

    def cancel(self) -> None:
        """End the run, under way or to come."""
        self._cancellation.cancel()

    def join(self, bucket: int) -> Batch:
        """Join the slices' inputs and pad them with zeros to `bucket` rows; returns itself."""
        self.padding = bucket - self.rows
        self._inputs = {
            name: _join([part.ticket.inputs[name][part.start : part.stop] for part in self.slices], bucket)
            for name in self.slices[0].ticket.inputs
        }
        return self

    def run(self, graph: Graph) -> Run:
        """Run the graph on the joined rows. On the engine's thread.

        Raises:
            EngineFailure: not as many rows came back as went in, or every caller has gone before the run began.
        """
        if not self.wanted:
            raise EngineFailure("every caller of the batch has gone")
        started_ns = time.monotonic_ns()
        wanted = {name for part in self.slices for name in part.ticket.outputs}
        computed = sorted(with_witnesses(wanted))
        outputs = graph.run(self._inputs, computed, self._cancellation)
        for name in computed:
            if len(outputs[name]) != self.rows + self.padding:
                went_in = self.rows + self.padding
                raise EngineFailure(f"output {name} has {len(outputs[name])} rows where {went_in} went in")
        ended_ns = time.monotonic_ns()
        spoiled = Spoiled({name: outputs[name] for name in computed})
        return Run({name: outputs[name] for name in wanted}, spoiled, started_ns, ended_ns, self.rows)

    def deliver(self, run: Run) -> None:
        """Give every call its own rows, or the error of the first one that is not finite."""
        row = 0
        for part in self.slices:
            begin, row = row, row + part.rows
            if (spoiled := run.spoiled.first(part.ticket.outputs, begin, row)) is not None:
                part.ticket.fail(NotFinite(part.start + spoiled[0], spoiled[1]))
                continue
            rows = {name: array[begin:row] for name, array in run.outputs.items()}
            try:
                part.ticket.deliver(part, rows, run)
            except ValueError as error:
                part.ticket.fail(EngineFailure(f"the graph's rows change their shape between batches: {error}"))

    def fail(self, error: Exception) -> None:
        """Give every call the error, without what led to it: those frames hold the batch, and so the calls."""
        error.__cause__ = error.__context__ = None
        for part in self.slices:
            part.ticket.fail(error.with_traceback(None))


def _join(parts: Sequence[NDArray[Any]], rows: int) -> NDArray[Any]:
    if len(parts) == 1 and len(parts[0]) == rows:
        return np.ascontiguousarray(parts[0])
    joined = np.empty((rows, *parts[0].shape[1:]), parts[0].dtype)
    filled = sum(map(len, parts))
    np.concatenate(parts, out=joined[:filled])
    joined[filled:] = 0
    return joined
