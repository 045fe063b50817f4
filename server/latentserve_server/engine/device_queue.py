"""A fair queue for one device, shared by the models that run on it."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Account:
    """What one model has had of a device; it has or wants one slot at a time."""

    def __init__(self) -> None:
        self.end = 0.0
        """The tag at which its last slot ended."""


class Claim:
    """A slot that is wanted or had."""

    def __init__(self, account: Account, start: float, number: int) -> None:
        self.account = account
        self.start = start
        self.granted = threading.Event()
        self._order = start, number

    def __lt__(self, other: Claim) -> bool:
        return self._order < other._order


class FairOrder:
    """Whose slot is next. Knows no time but the seconds that it is told, and no threads.

    Start-time fair queuing (Goyal, Vin and Cheng 1996, "Start-time fair queuing: a scheduling algorithm for integrated
    services packet switching networks"), counted in seconds of the device: each slot gets a start tag, the end of its
    account's last slot or the tag of the slot that was granted last, whichever is later, and the least tag is next. So
    two accounts that both want the device all the time differ by no more than one slot of each, and one that did not
    want it saves nothing up.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._waiting: list[Claim] = []
        self.granted = 0
        """Slots that were granted and have not ended."""
        self._tag = 0.0
        self._last_end = 0.0

    def __len__(self) -> int:
        """Claims that wait."""
        return len(self._waiting)

    def claim(self, account: Account) -> Claim:
        """Let an account wait for a slot."""
        claim = Claim(account, max(self._tag, account.end), next(self._numbers))
        heapq.heappush(self._waiting, claim)
        return claim

    def grant(self) -> Claim:
        """Give the next slot to one that waits."""
        claim = heapq.heappop(self._waiting)
        self._tag = max(self._tag, claim.start)
        self.granted += 1
        return claim

    def end(self, claim: Claim, seconds: float) -> None:
        """Record that a granted slot was held for so many seconds."""
        claim.account.end = claim.start + seconds
        self._last_end = max(self._last_end, claim.account.end)
        self.granted -= 1
        if not self.granted and not self._waiting:
            self._tag = self._last_end  # a device that falls idle owes nothing to anybody


class DeviceQueue:
    """Grants slots on one device to threads that wait for them."""

    def __init__(self, at_once: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`at_once` slots are had at a time, or any number; `clock` gives seconds, and measures them."""
        self._at_once = at_once
        self._clock = clock
        self._lock = threading.Lock()
        self._order = FairOrder()

    @property
    def waiting(self) -> int:
        """Threads that wait for a slot now."""
        with self._lock:
            return len(self._order)

    @contextmanager
    def slot(self, account: Account) -> Iterator[None]:
        """The device, for the block. Waits for it."""
        with self._lock:
            claim = self._order.claim(account)
            self._grant()
        claim.granted.wait()
        began = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - began
            with self._lock:
                self._order.end(claim, seconds)
                self._grant()

    def _grant(self) -> None:
        while len(self._order) and (self._at_once is None or self._order.granted < self._at_once):
            self._order.grant().granted.set()
