"""Admission: how many calls are taken at a time, of how many bytes, and when a listener drains."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Protocol

from latentserve_server.errors import LatentServeError, Overloaded, ShuttingDown

_COME_BACK_SECONDS = (0.5, 1.5)
"""A refused caller is told a time between these, drawn at random, so that those of a burst do not return as one."""


class Admitted(Protocol):
    """A call that may be cut off."""

    def cut_off(self) -> None:
        """End the call: the server stops."""
        ...


class Admission:
    """Counts the calls under way, from their acceptance until their reply has left."""

    def __init__(self, max_calls: int) -> None:
        """`max_calls` is how many may be under way at a time."""
        self._max_calls = max_calls
        self._under_way: set[Admitted] = set()
        self._unsent: set[Admitted] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = asyncio.Event()
        """Set from the moment on from which no call is taken."""

    def refusal(self) -> LatentServeError | None:
        """Why a call that comes now is not taken; None where it is."""
        if self.draining.is_set():
            return ShuttingDown("the server is stopping; ask another one")
        if len(self._under_way) < self._max_calls:
            return None
        wait = random.uniform(*_COME_BACK_SECONDS)
        return Overloaded(f"{len(self._under_way)} of at most {self._max_calls} calls are under way", retry_after=wait)

    def take(self, call: Admitted) -> None:
        """Count a call, which has a place until `leave`."""
        self._under_way.add(call)

    def begin(self, call: Admitted) -> None:
        """Have `drain` wait until the call has been answered, and its reply has left."""
        self._unsent.add(call)
        self._idle.clear()

    def leave(self, call: Admitted) -> None:
        """Count a call no longer: its reply has left, or nobody reads it."""
        self._under_way.discard(call)
        self._unsent.discard(call)
        if not self._unsent:
            self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Refuse new calls as UNAVAILABLE from now on, and return when the reply of the last one has left.

        Calls that are not answered after `seconds` are cut off.
        """
        self.draining.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        for call in self._unsent:
            call.cut_off()


class BytesUnderWay:
    """Counts the bytes of all requests up to a limit. What one takes while it is answered is a few times its bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.total = 0

    def enter(self, size: int) -> None:
        """Count a request that has arrived.

        Raises:
            Overloaded: it goes beyond the limit.
        """
        if self.total + size > self._limit:
            raise Overloaded(f"{self.total} of at most {self._limit} bytes are under way; {size} more do not fit")
        self.total += size

    def leave(self, size: int) -> None:
        """Count a request no longer: it was answered."""
        self.total -= size
