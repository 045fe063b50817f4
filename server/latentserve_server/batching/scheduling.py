"""A call's deadline and priority, and its result with the time it took."""

from __future__ import annotations

from typing import NamedTuple, Protocol

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


class RowAllowance(Protocol):
    """The rows that a caller may have. Callers whose allowance is another share queues fairly."""

    def check_rows(self, rows: int) -> None:
        """Hold so many rows to what the caller may have now.

        Raises:
            Overloaded: there are too many.
        """
        ...

    async def wait_for_rows(self, rows: int) -> None:
        """Return once the caller may have so many rows."""
        ...

    def enter(self, rows: int) -> None:
        """Count rows that go to a graph."""
        ...

    def leave(self, rows: int) -> None:
        """They have come back."""
        ...


class Scheduling(NamedTuple):
    """A call's deadline and priority, and whose it is."""

    deadline: float = NEVER
    """A time of the event loop's clock, in seconds."""
    bulk: bool = False
    """Whether this is bulk work, which gives way to interactive calls."""
    caller: RowAllowance | None = None
    """Whose call it is; None where callers are not told apart."""
    is_patient: bool = False
    """Whether it waits, where its caller has too many rows, and is not refused."""


WHENEVER = Scheduling()
"""No deadline, and nobody comes first."""
