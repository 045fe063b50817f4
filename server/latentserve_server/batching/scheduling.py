"""A call's deadline and priority, and its result with the time it took."""

from __future__ import annotations

from typing import NamedTuple

from latentserve_server.engine import Arrays

NEVER = float("inf")
"""The deadline of who waits as long as it takes."""


class Timing(NamedTuple):
    """What a call's rows took of the engine."""

    queue_ns: int = 0
    """Time from admission to the last row's entry into the engine, less this call's own computing, in nanoseconds."""
    compute_ns: int = 0
    """Time that batches with rows of this call ran, in nanoseconds."""
    batch_rows: int = 0
    """Rows of the largest of these batches."""

    def then(self, other: Timing) -> Timing:
        """Both, one after the other."""
        return Timing(
            self.queue_ns + other.queue_ns,
            self.compute_ns + other.compute_ns,
            max(self.batch_rows, other.batch_rows),
        )


class Result(NamedTuple):
    """A call's output rows and what they took."""

    outputs: Arrays
    timing: Timing


class Scheduling(NamedTuple):
    """A call's deadline and priority."""

    deadline: float = NEVER
    """A time of the event loop's clock, in seconds."""
    bulk: bool = False
    """Whether this is bulk work, which gives way to interactive calls."""


WHENEVER = Scheduling()
"""No deadline, and nobody comes first."""
