"""Thread pools for work that is too long for the event loop; worker processes are in `supervision`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

INLINE_BYTES = 1 << 16
"""Work on fewer bytes than this is done where it stands: the way to a thread and back would take longer."""

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """Threads that are not the event loop's and not the engine's: some for numpy work, and some for image files."""

    def __init__(self, threads: int) -> None:
        """`threads` for numpy work, and half as many for work in parts, which may take seconds."""
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="worker")
        self._parts = ThreadPoolExecutor(max(1, threads // 2), thread_name_prefix="parts")

    async def run(self, size_bytes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work(*args, **kwargs)`, which goes over `size_bytes` bytes of data."""
        if size_bytes < INLINE_BYTES:
            return work(*args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))

    async def run_each(self, parts: Iterable[Callable[[], T]]) -> list[T]:
        """The results of the parts of one long work, one after another, on threads that `run` does not use.

        Callers alternate, for each has one part on its way at a time. One that is cancelled begins no further part.
        """
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._parts, part) for part in parts]

    def close(self) -> None:
        """Wait for work under way and end the threads."""
        self._executor.shutdown(wait=True)
        self._parts.shutdown(wait=True)
