"""The queue of rows: two lanes, bounded, and the choice of the next batch; and how long its batches take, about.

There are two lanes. Calls that fit a batch are never split and run in the order in which they came. The second lane is
for bulk work and for larger calls, which are cut and share evenly. They have whole batches while the first lane is
empty, and beside its rows a quarter of a batch (rounded up): no less, so that they never starve, and no more, because a
run takes longer the more rows it has. So neither can a call of ten thousand rows hold up calls of one row, nor they it.

Where calls of several callers wait, each lane shares its rows out between the callers, however many calls each has; and
the last quarter of the queue is for those who have less than an even share of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from latentserve_server.batching.fairness import FairLine, Share, fair_shares
from latentserve_server.errors import Overloaded


class Ticket:
    """One call's place in the queue: so many rows, of which so many were taken."""

    taken = 0
    owed = 0
    """Rows of its turn that the last batch had no room for."""
    withdrawn = False
    share: Share[Any]
    """Its caller's, once it is admitted."""

    def __init__(self, rows: int, *, size_bytes: int = 0, bulk: bool = False, caller: object = None) -> None:
        """Callers share the queue fairly; None stands for all that are not told apart."""
        self.rows = rows
        self.size_bytes = size_bytes
        self.bulk = bulk
        self.caller = caller

    @property
    def remaining(self) -> int:
        """Rows that still wait."""
        return 0 if self.withdrawn else self.rows - self.taken


TicketT = TypeVar("TicketT", bound=Ticket)


class Slice(Generic[TicketT]):
    """Rows `start` to `stop` - 1 of a ticket, bound for the next batch."""

    __slots__ = ("rows", "start", "stop", "ticket")

    def __init__(self, ticket: TicketT, start: int, stop: int) -> None:
        self.ticket = ticket
        self.start = start
        self.stop = stop
        self.rows = stop - start


class RowQueue(Generic[TicketT]):
    """Tickets that wait, bounded in rows and in bytes."""

    def __init__(self, *, max_batch_rows: int, max_rows: int, max_bytes: int) -> None:
        self._max_batch_rows = max_batch_rows
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._quarter = -(-max_batch_rows // 4)
        """Of a batch: what the second lane has beside the first, and a turn in it."""
        self._whole: FairLine[TicketT] = FairLine()
        self._divisible: deque[TicketT] = deque()
        self._whole_rows = 0
        self._divisible_rows = 0
        self._divisible_level = 0
        """What the caller of the second lane had that had least; who comes anew had as much."""
        self._reserve_debt = 0
        """Rows of the divisible lane's quarter that went to calls which needed the whole batch."""
        self._bytes = 0

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._whole_rows + self._divisible_rows

    @property
    def fills_a_batch(self) -> bool:
        """Whether the calls of the first lane fill a batch, so that no later one could still get into it."""
        return self._whole_rows >= self._max_batch_rows

    def tickets(self) -> list[TicketT]:
        """All that wait."""
        return [*self._whole, *self._divisible]

    def batches_until(self, ticket: TicketT) -> int:
        """Runs of the graph that it takes to answer the ticket if it is admitted now, its own included."""
        if self._is_divisible(ticket):
            return -(-(self.rows + ticket.rows) // self._max_batch_rows)
        room = self._max_batch_rows - (self._quarter if self._divisible_rows else 0)
        rows = self._whole_rows + ticket.rows if ticket.caller is None else self._rows_until(ticket)
        return -(-rows // max(1, room))  # of batches of one row, the second lane gets some

    def _rows_until(self, ticket: TicketT) -> int:
        """Rows of the first lane that run until a caller's call has run: others have no more than the caller has."""
        own = self._whole.share_of(ticket.caller)
        rows = own.whole_rows + ticket.rows
        return rows + sum(min(share.whole_rows, rows) for share in self._whole.sharers() if share is not own)

    def admit(self, ticket: TicketT) -> None:
        """Let the ticket wait.

        Raises:
            Overloaded: more than `max_rows` rows, or `max_bytes` bytes, would wait.
        """
        if self.rows + ticket.rows > self._max_rows:
            raise Overloaded(f"{self.rows} of at most {self._max_rows} rows wait; {ticket.rows} more do not fit")
        if self._bytes + ticket.size_bytes > self._max_bytes:
            waits = f"{self._bytes} of at most {self._max_bytes} bytes wait"
            raise Overloaded(f"{waits}; {ticket.size_bytes} more do not fit")
        ticket.share = share = self._whole.share_of(ticket.caller)
        if ticket.caller is not None and share.rows:
            self._check_share(ticket, share)
        self._bytes += ticket.size_bytes
        share.size_bytes += ticket.size_bytes
        if self._is_divisible(ticket):
            if not share.divisible_rows:
                share.divisible_had = max(share.divisible_had, self._divisible_level)
            self._divisible.append(ticket)
            self._divisible_rows += ticket.rows
            share.divisible_rows += ticket.rows
        else:
            self._whole.append(ticket, share)
            self._whole_rows += ticket.rows
            share.whole_rows += ticket.rows

    def _check_share(self, ticket: TicketT, share: Share[TicketT]) -> None:
        """Leave the last quarter of the queue to callers who have less than an even share of it; and there is always
        one more to come.

        Raises:
            Overloaded: the call would go there, and its caller has more.
        """
        for what, total, own, more, most in (
            ("rows", self.rows, share.rows, ticket.rows, self._max_rows),
            ("bytes", self._bytes, share.size_bytes, ticket.size_bytes, self._max_bytes),
        ):
            if total + more <= most - most // 4:
                continue
            if own + more > most // max(2, sum(1 for _ in self._whole.sharers())):
                waits = f"{total} of at most {most} {what} wait, {own} of them the caller's"
                raise Overloaded(f"{waits}; the last quarter is for those who have fewer")

    def withdraw(self, ticket: TicketT) -> None:
        """Forget the ticket's waiting rows. Harmless when it has none."""
        if ticket.remaining:
            self._leave(ticket, ticket.remaining)
            self._free(ticket)
        ticket.withdrawn = True

    def gather(self, wanted: Callable[[TicketT], bool]) -> list[Slice[TicketT]]:
        """Take the rows of the next batch, at most `max_batch_rows`; none when nothing waits.

        `wanted` is asked of every ticket before its rows are taken; where it says no, the ticket is withdrawn instead.
        """
        self._divisible = deque(ticket for ticket in self._divisible if self._still_waits(ticket, wanted))
        slices = self._gather_whole(self._room_for_whole(), wanted)
        room = self._room_for_divisible(sum(part.rows for part in slices))
        if self._divisible and any(ticket.caller != self._divisible[0].caller for ticket in self._divisible):
            return slices + self._gather_shared(room)
        for sharers in range(len(self._divisible), 0, -1):
            if not room:
                break
            ticket = self._divisible.popleft()
            turn = ticket.owed or max(self._quarter, room // sharers)
            part = self._take(ticket, min(ticket.remaining, room, turn))
            room -= part.rows
            slices.append(part)
            ticket.owed = turn - part.rows if ticket.remaining else 0
            if ticket.owed:
                self._divisible.appendleft(ticket)
            elif ticket.remaining:
                self._divisible.append(ticket)
        return slices

    def _gather_shared(self, room: int) -> list[Slice[TicketT]]:
        """Rows of the second lane where several callers wait there: those who had least come first."""
        lines: dict[object, list[TicketT]] = {}
        for ticket in self._divisible:
            lines.setdefault(ticket.caller, []).append(ticket)
        shares = sorted(map(self._whole.share_of, lines), key=lambda share: share.divisible_had)
        self._divisible_level = shares[0].divisible_had
        slices: list[Slice[TicketT]] = []
        for share, rows in zip(shares, fair_shares(room, [one.divisible_rows for one in shares]), strict=True):
            share.divisible_had += rows
            for ticket in lines[share.caller]:
                if not rows:
                    break
                ticket.owed = 0
                slices.append(self._take(ticket, min(ticket.remaining, rows)))
                rows -= slices[-1].rows
        had = {id(part.ticket) for part in slices}
        waiting = [ticket for ticket in self._divisible if ticket.remaining]
        self._divisible = deque(sorted(waiting, key=lambda ticket: id(ticket) in had))
        return slices

    def _room_for_whole(self) -> int:
        """Rows of the next batch that the first lane may have."""
        if not self._divisible:
            self._reserve_debt = 0
            return self._max_batch_rows
        if self._reserve_debt >= self._max_batch_rows:
            self._reserve_debt = 0
            return 0
        room = self._max_batch_rows - self._quarter
        first = self._whole.first()
        if first is not None and first.remaining > room:
            self._reserve_debt += self._quarter
            return self._max_batch_rows
        return room

    def _room_for_divisible(self, whole_rows: int) -> int:
        """Rows of the next batch that the second lane may have beside so many of the first."""
        room = self._max_batch_rows - whole_rows
        return min(room, self._quarter) if whole_rows else room

    def _gather_whole(self, room: int, wanted: Callable[[TicketT], bool]) -> list[Slice[TicketT]]:
        slices: list[Slice[TicketT]] = []
        while (ticket := self._whole.first()) is not None:
            if not wanted(ticket):
                self.withdraw(ticket)
                continue
            if ticket.rows > room:
                break
            room -= ticket.rows
            self._leave(ticket, ticket.rows)
            self._free(ticket)
            ticket.taken = ticket.rows
            slices.append(Slice(ticket, 0, ticket.rows))
            self._whole.take()
        return slices

    def _still_waits(self, ticket: TicketT, wanted: Callable[[TicketT], bool]) -> bool:
        if ticket.remaining and not wanted(ticket):
            self.withdraw(ticket)
        return ticket.remaining > 0

    def _take(self, ticket: TicketT, rows: int) -> Slice[TicketT]:
        start = ticket.taken
        self._leave(ticket, rows)
        ticket.taken += rows
        if not ticket.remaining:
            self._free(ticket)
        return Slice(ticket, start, ticket.taken)

    def _leave(self, ticket: TicketT, rows: int) -> None:
        if self._is_divisible(ticket):
            self._divisible_rows -= rows
            ticket.share.divisible_rows -= rows
        else:
            self._whole_rows -= rows
            ticket.share.whole_rows -= rows

    def _free(self, ticket: TicketT) -> None:
        self._bytes -= ticket.size_bytes
        ticket.share.size_bytes -= ticket.size_bytes

    def _is_divisible(self, ticket: TicketT) -> bool:
        return ticket.bulk or ticket.rows > self._max_batch_rows


_RUN_WEIGHT = 0.25
"""Share of the newest run in the average of its size."""
_WEIGHT = 0.1
"""Share of the newest batch in the average: some thirty batches are remembered."""


class WaitEstimate:
    """The time from one full batch's dispatch to its answer, in seconds, averaged over the last ones."""

    def __init__(self, max_batch_rows: int) -> None:
        self._max_batch_rows = max_batch_rows
        self._enough = max_batch_rows // 2
        self._seconds: float | None = None
        self._dispatched: float | None = None

    def dispatch(self, now: float) -> None:
        """A batch goes to the engine."""
        self._dispatched = now

    def finish(self, rows: int, now: float) -> None:
        """It came back, with answers.

        Batches of half the size and more are averaged. A smaller one only bounds the average: a full batch takes at
        most as much longer as it has more rows, so that one stall is not remembered for long.
        """
        assert self._dispatched is not None
        seconds, self._dispatched = now - self._dispatched, None
        if rows >= self._enough:
            known = seconds if self._seconds is None else self._seconds
            self._seconds = known + _WEIGHT * (seconds - known)
        elif self._seconds is not None:
            self._seconds = min(self._seconds, seconds * self._max_batch_rows / rows)

    def discard(self) -> None:
        """The batch that was dispatched, if it has not come back, will not: it failed, or all callers left.

        How long it took says nothing of others.
        """
        self._dispatched = None

    def wait(self, batches: int, now: float) -> float:
        """Seconds until `batches` more batches will have run after the one under way; 0 while nothing is known."""
        if self._seconds is None:
            return 0.0
        under_way = 0.0 if self._dispatched is None else max(0.0, self._dispatched + self._seconds - now)
        return under_way + batches * self._seconds


class RunTimes:
    """What runs of about so many rows took."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def note(self, rows: int, seconds: float) -> None:
        """A run of `rows` rows took so long."""
        size = rows.bit_length()
        known = self._seconds.get(size, seconds)
        self._seconds[size] = known + _RUN_WEIGHT * (seconds - known)

    def expected(self, rows: int) -> float:
        """Seconds that a run of `rows` rows will take, about; infinity where no such run is known."""
        return self._seconds.get(rows.bit_length(), float("inf"))
