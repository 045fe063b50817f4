"""A call's deadline, and the timing in its reply."""

from __future__ import annotations

import time

from latentserve.v1 import generation_pb2 as pb
from latentserve_server.batching.scheduling import WHENEVER, Scheduling, Timing
from latentserve_server.errors import InvalidArgument
from latentserve_server.model.served_model import ServedModel
from latentserve_server.wire.exchange import Exchange

_NEVER = float("inf")
_PRIORITIES = frozenset(pb.Priority.values())


class CallClock:
    """One call's times, on the monotonic clock, which the event loop keeps too."""

    def __init__(self, context: Exchange) -> None:
        remaining = context.time_remaining()
        self._began_ns = time.monotonic_ns()
        self._deadline = _NEVER if remaining is None else self._began_ns / 1e9 + remaining

    def scheduling(self, priority: pb.Priority) -> Scheduling:
        """The call's deadline and priority.

        Raises:
            InvalidArgument: there is no such priority.
        """
        if priority not in _PRIORITIES:
            raise InvalidArgument("priority", f"{priority} is not one of {', '.join(pb.Priority.keys())}")
        if self._deadline == _NEVER and priority != pb.PRIORITY_BULK:
            return WHENEVER
        return Scheduling(self._deadline, bulk=priority == pb.PRIORITY_BULK)

    def served(self, model: ServedModel, timing: Timing) -> pb.Served:
        """Who answered, and where the time went."""
        stated = pb.Timing(
            queue_ns=timing.queue_ns,
            compute_ns=timing.compute_ns,
            total_ns=time.monotonic_ns() - self._began_ns,
            batch_rows=timing.batch_rows,
        )
        identity = model.identity
        return pb.Served(model=identity.name, version=identity.version, timing=stated, numerics=identity.numerics)
