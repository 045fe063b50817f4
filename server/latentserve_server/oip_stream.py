"""Answers to a stream of requests: several under way at a time, sent in the order of the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


async def answer_in_order(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Awaitable[Answer]],
    send: Callable[[Answer], Awaitable[None]],
    *,
    ahead: int,
) -> None:
    """Send the answer to every request, in order. At most `ahead` answers are waited for beside the next one.

    A stream that is not read from, or slow to send, is read no further. Cancellation cancels every answer under way.

    Raises:
        Exception: what reading, answering or sending raised first; nothing is sent after it.
    """
    answers: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue(ahead)

    async def read(group: asyncio.TaskGroup) -> None:
        async for request in requests:
            await answers.put(group.create_task(_await(answer(request))))
        await answers.put(None)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(read(group))
            while (next_answer := await answers.get()) is not None:
                await send(await next_answer)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _await(answer: Awaitable[Answer]) -> Answer:
    return await answer
