"""Which waiting rows run next. Knows rows and callers; knows nothing of arrays, threads or time's passing.

A call of up to three quarters of a batch is never split. A larger one is cut to fill whatever room is left, is always
left a quarter of the batch while it waits, and shares that room evenly with the other large ones: so neither can a
call of ten thousand rows hold up calls of one row, nor they it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from latentserve_server.errors import Overloaded


class Ticket:
    """One call's place in the queue: so many rows, of which so many were taken."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.taken = 0
        self.withdrawn = False

    @property
    def remaining(self) -> int:
        """Rows that still wait."""
        return 0 if self.withdrawn else self.rows - self.taken


TicketT = TypeVar("TicketT", bound=Ticket)


@dataclass(frozen=True, slots=True)
class Slice(Generic[TicketT]):
    """Rows `start` to `stop` - 1 of a ticket, bound for the next batch."""

    ticket: TicketT
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start


class RowQueue(Generic[TicketT]):
    """Tickets that wait, bounded in rows."""

    def __init__(self, *, max_batch_rows: int, max_rows: int) -> None:
        self._max_batch_rows = max_batch_rows
        self._max_rows = max_rows
        self._reserve = max_batch_rows // 4
        self._small: deque[TicketT] = deque()
        self._large: deque[TicketT] = deque()
        self.rows = 0

    def admit(self, ticket: TicketT) -> None:
        """Let the ticket wait.

        Raises:
            Overloaded: more than `max_rows` rows would wait.
        """
        if self.rows + ticket.rows > self._max_rows:
            raise Overloaded(f"{self.rows} of at most {self._max_rows} rows wait; {ticket.rows} more do not fit")
        self.rows += ticket.rows
        large = ticket.rows > self._max_batch_rows - self._reserve
        (self._large if large else self._small).append(ticket)

    def withdraw(self, ticket: TicketT) -> None:
        """Forget the ticket's waiting rows. Harmless when it has none."""
        self.rows -= ticket.remaining
        ticket.withdrawn = True

    def gather(self, wanted: Callable[[TicketT], bool]) -> list[Slice[TicketT]]:
        """Take the rows of the next batch, at most `max_batch_rows`; none when nothing waits.

        `wanted` is asked of every ticket before its rows are taken; where it says no, the ticket is withdrawn instead.
        """
        self._large = deque(ticket for ticket in self._large if self._still_waits(ticket, wanted))
        room = self._max_batch_rows - (self._reserve if self._large else 0)
        slices = self._gather_small(room, wanted)
        room = self._max_batch_rows - sum(part.rows for part in slices)
        for sharers in range(min(len(self._large), room), 0, -1):
            ticket = self._large.popleft()
            part = self._take(ticket, min(ticket.remaining, room // sharers))
            room -= part.rows
            slices.append(part)
            if ticket.remaining:
                self._large.append(ticket)
        return slices

    def _gather_small(self, room: int, wanted: Callable[[TicketT], bool]) -> list[Slice[TicketT]]:
        slices: list[Slice[TicketT]] = []
        while self._small:
            ticket = self._small[0]
            if self._still_waits(ticket, wanted):
                if ticket.remaining > room:
                    break
                room -= ticket.remaining
                slices.append(self._take(ticket, ticket.remaining))
            self._small.popleft()
        return slices

    def _still_waits(self, ticket: TicketT, wanted: Callable[[TicketT], bool]) -> bool:
        if ticket.remaining and not wanted(ticket):
            self.withdraw(ticket)
        return ticket.remaining > 0

    def _take(self, ticket: TicketT, rows: int) -> Slice[TicketT]:
        start = ticket.taken
        ticket.taken += rows
        self.rows -= rows
        return Slice(ticket, start, ticket.taken)
