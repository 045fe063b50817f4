"""Streams of replies: chunks made one ahead, and answers in the order of their requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from latentserve_server.errors import ShuttingDown

T = TypeVar("T")


async def chunks(
    make: Callable[[int, int], Coroutine[Any, Any, T]], first: int, count: int, rows: int
) -> AsyncGenerator[T, None]:
    """What `make(start, rows)` gives for each chunk of `count` rows from `first` on, in order.

    A consumer that stops taking leaves two chunks in memory; one that goes ends the work under way.
    """
    end = first + count
    coming = asyncio.ensure_future(make(first, min(rows, count)))
    try:
        for following in range(first + rows, end + rows, rows):
            ready = await coming
            if following < end:
                coming = asyncio.ensure_future(make(following, min(rows, end - following)))
            yield ready
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        del coming  # its error has this frame in its traceback


Request = TypeVar("Request")
Answer = TypeVar("Answer")


async def answer_in_order(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Coroutine[Any, Any, Answer]],
    send: Callable[[Answer], Coroutine[Any, Any, None]],
    draining: asyncio.Event,
    *,
    weigh: Callable[[Request], int],
    room: int,
) -> None:
    """Send the answer to every request, in order.

    The requests that are read and not yet answered weigh at most `room` in total, unless there is only one: the
    requests of one stream do not crowd each other out, and a stream whose answers are not taken is read no further.
    Cancellation cancels every answer under way. Once `draining` is set, no request is read any more.

    Raises:
        ShuttingDown: `draining` is set, and what was under way has been answered.
        Exception: what answering or sending raised first, in the order of the requests, or else reading; nothing is
            sent after it.
    """
    # No TaskGroup: its error is held by its own frames, and with it every request would wait for the collector.
    answers: asyncio.Queue[tuple[int, asyncio.Task[Answer]] | None] = asyncio.Queue()
    space, tasks = _Room(room), deque[asyncio.Task[Answer]]()

    async def read() -> bool:
        """Whether that was the last request."""
        try:
            async for request in requests:
                if draining.is_set():
                    return False
                weight = weigh(request)
                await space.enter(weight)
                tasks.append(asyncio.create_task(answer(request)))
                answers.put_nowait((weight, tasks[-1]))
            return True
        finally:
            answers.put_nowait(None)

    async def drain() -> None:
        await draining.wait()
        answers.put_nowait(None)  # behind those under way

    reading, ending = asyncio.create_task(read()), asyncio.create_task(drain())
    try:
        while (following := await answers.get()) is not None:
            await send(await following[1])
            tasks.popleft()
            await space.leave(following[0])
        if not reading.done() or not await reading:
            raise ShuttingDown("the server is stopping; ask another one")
    finally:
        await _end(reading, ending, *tasks)
        following = None  # an error has this frame in its traceback: it must not hold the task that raised it
        tasks.clear()
        del reading, ending


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Room:
    """Holds weights up to a total, or a single one of any weight."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._used = 0
        self._changed = asyncio.Condition()

    async def enter(self, weight: int) -> None:
        """Wait until the weight fits."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._used or self._used + weight <= self._total)
            self._used += weight

    async def leave(self, weight: int) -> None:
        """Give the weight's place to others."""
        async with self._changed:
            self._used -= weight
            self._changed.notify_all()
