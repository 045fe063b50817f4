"""Calls that may hang, each on a thread that nobody has to wait for."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from latentserve_server.errors import StoreFailure

P = ParamSpec("P")
T = TypeVar("T")

_PREFIX, _ENDED = "blocking-", "ended"


class BlockingCalls:
    """Runs work on threads, one piece at a time for each name, and waits no longer than a limit."""

    def __init__(self, seconds: float | None = None) -> None:
        """`seconds` is the limit; without, whoever waits may leave at any time."""
        self._seconds = seconds
        self._under_way = set[str]()

    async def make(self, name: str, work: Callable[[], T]) -> T:
        """The result of `work`, on a thread of its own. A thread that outlasts the limit goes on.

        Raises:
            StoreFailure: it took too long, or an earlier one of the name has not ended yet. OSError: there can be no
                further thread.
        """
        if name in self._under_way:
            raise StoreFailure("an earlier call has not ended yet")
        self._under_way.add(name)

        def run() -> T:
            try:
                return work()
            finally:
                self._under_way.discard(name)

        try:
            async with asyncio.timeout(self._seconds) as limit:
                return await on_thread(name, run)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StoreFailure(f"it did not answer within {self._seconds:g} s") from error
        except OSError:  # of the work, which has ended, or of a thread that did not begin
            self._under_way.discard(name)
            raise


async def on_thread(name: str, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of `work`, on a thread of its own, for which the process does not wait at its end.

    Raises:
        OSError: there can be no further thread.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        settle: Callable[..., None] = future.set_result
        try:
            result: object = context.run(work, *args, **kwargs)
        except BaseException as error:
            settle, result = future.set_exception, error
        threading.current_thread().name = _ENDED
        _deliver(loop, future, settle, result)

    start_thread(threading.Thread(target=run, name=f"{_PREFIX}{name}", daemon=True).start)
    return await future


def start_thread(start: Callable[[], T]) -> T:
    """What `start` returns, which starts a thread.

    Raises:
        OSError: there can be no further thread.
    """
    try:
        return start()
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise OSError(errno.EAGAIN, "no further thread can be started") from error


def threads_left() -> list[str]:
    """The names of the threads that the process would wait for at its end, and of those that were not waited for."""
    threads = (one for one in threading.enumerate() if one is not threading.current_thread())
    return sorted(one.name for one in threads if not one.daemon or one.name.startswith(_PREFIX))


def _deliver(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], settle: Callable[..., None], result: object
) -> None:
    def deliver() -> None:
        if not future.done():  # else nobody waits any more
            settle(result)

    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(deliver)
