"""A coroutine driven from callback to callback, without a task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

from latentserve_server.batching.scheduling import AwaitedResult


class Driver:
    """Runs one coroutine, which raises nothing.

    What it awaits is a future. It begins at once, and goes on at once when a batch has its result, where a task would
    wait for the event loop to come round. Nothing in it may ask for the current task, as `asyncio.timeout` does.
    """

    __slots__ = ("_context", "_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self._context = copy_context()
        self._waits_for: Any = None
        self._step(coroutine.send, None)

    def done(self) -> bool:
        """Whether the coroutine has ended."""
        return self._coroutine is None

    def cancel(self) -> None:
        """Raise CancelledError in the coroutine, where it waits."""
        if self._coroutine is None:
            return
        waits_for, self._waits_for = self._waits_for, None
        waits_for.cancel()
        if isinstance(waits_for, AwaitedResult):
            waits_for.resume = None
            self._step(self._coroutine.throw, asyncio.CancelledError())

    def _step(self, go_on: Callable[[Any], Any], value: Any) -> None:
        try:
            waits_for = self._context.run(go_on, value)
        except BaseException as end:
            self._coroutine = self._waits_for = None
            if isinstance(end, StopIteration):
                return
            raise
        self._waits_for = waits_for
        waits_for._asyncio_future_blocking = False  # which says to the future that its await was understood
        if isinstance(waits_for, AwaitedResult):
            waits_for.resume = self._resume
        else:
            waits_for.add_done_callback(self._resume)

    def _resume(self, _: Any = None) -> None:
        self._waits_for = None
        if self._coroutine is not None:
            self._step(self._coroutine.send, None)
