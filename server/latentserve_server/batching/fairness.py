"""Fair shares of a queue's rows between callers: whose call is next, and how rows are shared out.

The first lane is start-time fair queuing (Goyal, Vin and Cheng, 1996), in rows: a caller's next call has as its tag the
rows that the caller had, and the least tag is next. So of two callers who wait, neither gets ahead of the other by more
rows than one call of each has, and one who was idle has saved nothing up. With one caller it is the order of arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush, heapreplace
from typing import Generic, Protocol, TypeVar


class Waits(Protocol):
    """What waits in the lane."""

    rows: int
    withdrawn: bool


TicketT = TypeVar("TicketT", bound=Waits)

_FEW = 64
"""Shares that may lie idle until somebody looks for those."""


class Share(Generic[TicketT]):
    """What one caller has waiting, and what it has had of late."""

    __slots__ = ("caller", "divisible_had", "divisible_rows", "finish", "size_bytes", "tickets", "whole_rows")

    def __init__(self, caller: object) -> None:
        self.caller = caller
        self.tickets: deque[TicketT] = deque()
        """Its calls of the first lane, withdrawn ones among them."""
        self.whole_rows = self.divisible_rows = self.size_bytes = 0
        self.finish = 0
        """The tag of its next call of the first lane."""
        self.divisible_had = 0
        """Rows that it had in the second lane."""

    @property
    def rows(self) -> int:
        """Rows that wait, of both lanes."""
        return self.whole_rows + self.divisible_rows


class FairLine(Generic[TicketT]):
    """The first lane: calls that run whole, by the tags of their callers. Shares are of both lanes."""

    def __init__(self) -> None:
        self._shares: dict[object, Share[TicketT]] = {}
        self._next: list[tuple[int, int, Share[TicketT]]] = []
        """A heap of those that have tickets, by tag and by who came first."""
        self._virtual = 0
        """The tag of the call that was taken last."""
        self._arrivals = 0
        self._many = _FEW

    def share_of(self, caller: object) -> Share[TicketT]:
        """The caller's, which is made where there is none."""
        share = self._shares.get(caller)
        if share is None:
            if len(self._shares) > self._many:
                self._forget_idle()
            share = self._shares[caller] = Share(caller)
        return share

    def sharers(self) -> Iterator[Share[TicketT]]:
        """Those who have rows waiting."""
        return (share for share in self._shares.values() if share.whole_rows or share.divisible_rows)

    def append(self, ticket: TicketT, share: Share[TicketT]) -> None:
        """Let a call wait behind the others of its caller."""
        if not share.tickets:
            self._push(share)
        share.tickets.append(ticket)

    def first(self) -> TicketT | None:
        """The call that is next; None where nothing waits."""
        while self._next:
            share = self._next[0][2]
            while share.tickets:
                if not share.tickets[0].withdrawn:
                    return share.tickets[0]
                share.tickets.popleft()
            heappop(self._next)
        self._begin_anew()
        return None

    def take(self) -> None:
        """Take the call out that is next, which there is."""
        tag, _, share = self._next[0]
        self._virtual = tag
        share.finish = tag + share.tickets.popleft().rows
        if share.tickets:
            self._arrivals += 1
            heapreplace(self._next, (share.finish, self._arrivals, share))
        else:
            heappop(self._next)

    def __iter__(self) -> Iterator[TicketT]:
        return (ticket for share in self._shares.values() for ticket in share.tickets)

    def _push(self, share: Share[TicketT]) -> None:
        self._arrivals += 1
        heappush(self._next, (max(self._virtual, share.finish), self._arrivals, share))

    def _begin_anew(self) -> None:
        """Nobody waits: nobody is ahead of anybody."""
        if self._virtual:
            self._virtual = 0
            for share in self._shares.values():
                share.finish = 0
        if len(self._shares) > 1:
            self._shares = {share.caller: share for share in self._shares.values() if share.divisible_rows}

    def _forget_idle(self) -> None:
        """Forget those who have nothing waiting and are ahead of nobody."""
        kept = [one for one in self._shares.values() if one.tickets or one.rows or one.finish > self._virtual]
        self._shares = {share.caller: share for share in kept}
        self._many = max(_FEW, 2 * len(kept))


def fair_shares(room: int, demands: Sequence[int]) -> list[int]:
    """How many of `room` rows each of these demands has: the most for the least, and no row is left that one wants.

    Of rows that cannot be shared evenly the earlier ones have one more.
    """
    shares, open_demands = [0] * len(demands), list(range(len(demands)))
    while room and open_demands:
        each = room // len(open_demands)
        met = [at for at in open_demands if demands[at] <= each]
        for at in met:
            shares[at] = demands[at]
            room -= demands[at]
        if met:
            open_demands = [at for at in open_demands if demands[at] > each]
            continue
        for place, at in enumerate(open_demands):
            shares[at] = each + (place < room % len(open_demands))
        return shares
    return shares
