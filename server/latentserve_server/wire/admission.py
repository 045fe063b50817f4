"""Admission: how many calls a listener takes at a time, and when it drains."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import grpc

from latentserve_server.errors import LatentServeError, Overloaded, ShuttingDown

_COME_BACK_SECONDS = (0.5, 1.5)
"""A refused caller is told a time between these, drawn at random, so that those of a burst do not return as one."""


class Admission:
    """Counts the calls under way, from their acceptance until their reply has left."""

    def __init__(self, max_calls: int) -> None:
        """`max_calls` is how many may be under way at a time."""
        self._max_calls = max_calls
        self._under_way: set[asyncio.Task[Any]] = set()
        self._answering: set[asyncio.Task[Any]] = set()
        self._unsent: set[grpc.aio.ServicerContext[Any, Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = asyncio.Event()
        """Set from the moment on from which no call is taken."""
        self._ended = False

    @property
    def has_ended(self) -> bool:
        """Whether the calls under way were told to end, so that their cancellation is the server's doing."""
        return self._ended

    def take(self) -> bool:
        """Count the running task as a call until it ends. Returns False where the call must be refused."""
        if self.draining.is_set() or len(self._under_way) >= self._max_calls:
            return False
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return True

    def refusal(self) -> LatentServeError:
        """Why a call is not taken."""
        if self.draining.is_set():
            return ShuttingDown("the server is stopping; ask another one")
        wait = random.uniform(*_COME_BACK_SECONDS)
        return Overloaded(f"{len(self._under_way)} of at most {self._max_calls} calls are under way", retry_after=wait)

    def begin(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """The running task answers a call from now on, until `end`.

        `drain` waits until the reply has left, which is when gRPC says that it is done.

        Raises:
            ShuttingDown: the listener drains.
        """
        if self.draining.is_set():
            raise self.refusal()
        self._unsent.add(context)
        self._idle.clear()
        done: Any = self._sent  # the stubs take no function
        context.add_done_callback(done)
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)

    def give_up(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Stop counting the running task as a call: nobody reads its reply."""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.discard(task)
        self._sent(context)

    def end(self) -> None:
        """Mark the running task as answered, so that draining does not cancel it any more."""
        task = asyncio.current_task()
        assert task is not None
        self._answering.discard(task)

    async def drain(self, seconds: float) -> None:
        """Refuse new calls as UNAVAILABLE from now on, and return when the reply of the last one has left.

        gRPC itself would give CANCELLED to calls that it has not handed over when it stops. Calls that are not answered
        after `seconds` are cancelled, for `has_ended`.
        """
        self.draining.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        self._ended = True
        for task in self._answering:
            task.cancel()

    def _sent(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._unsent.discard(context)
        if not self._unsent:
            self._idle.set()
