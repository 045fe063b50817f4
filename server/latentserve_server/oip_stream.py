"""Answers to a stream of requests: several under way at a time, sent in the order of the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


async def answer_in_order(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Coroutine[Any, Any, Answer]],
    send: Callable[[Answer], Coroutine[Any, Any, None]],
    *,
    weigh: Callable[[Request], int],
    room: int,
) -> None:
    """Send the answer to every request, in order.

    What the requests weigh that are read and not yet answered is `room` at most, or else there is one of them: the
    requests of one stream do not crowd each other out, and a stream whose answers are not taken is read no further.
    Cancellation cancels every answer under way.

    Raises:
        Exception: what reading, answering or sending raised first; nothing is sent after it.
    """
    answers: asyncio.Queue[tuple[int, asyncio.Task[Answer]] | None] = asyncio.Queue()
    space = _Room(room)

    async def read(group: asyncio.TaskGroup) -> None:
        async for request in requests:
            weight = weigh(request)
            await space.enter(weight)
            answers.put_nowait((weight, group.create_task(answer(request))))
        answers.put_nowait(None)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(read(group))
            while (following := await answers.get()) is not None:
                weight, task = following
                await send(await task)
                await space.leave(weight)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


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
