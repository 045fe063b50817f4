"""A long job in chunks: the next one is made while one is taken, and no more than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

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
