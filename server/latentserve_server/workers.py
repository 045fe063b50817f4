"""Threads for numpy work that is too long for the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

INLINE_BYTES = 1 << 16
"""Work on fewer bytes than this is done where it stands: the way to a thread and back would take longer."""

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A pool of threads that are not the event loop's and not the engine's."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="worker")

    async def run(self, size_bytes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work(*args, **kwargs)`, which goes over `size_bytes` bytes of data."""
        if size_bytes < INLINE_BYTES:
            return work(*args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def close(self) -> None:
        """Wait for work under way and end the threads."""
        self._executor.shutdown(wait=True)
