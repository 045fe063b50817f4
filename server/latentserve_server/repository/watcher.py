"""The watcher: scans at intervals, and retries of what may pass."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from latentserve_server.repository.repository import Repository

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0


async def watch(repository: Repository, interval: float) -> None:
    """Keep the repository up to date until cancelled: look every `interval` seconds, or never where that is 0.

    What may pass by itself, as a lack of memory, of files to be opened or of an answer from a store, is tried again
    after pauses that double. A version that failed for another reason is tried again only by a scan: a server that does
    not poll does not try a half-copied one again and again.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(_try_again(repository))
        if interval:
            group.create_task(_scan(repository, interval))


async def _scan(repository: Repository, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        with suppress(Exception):  # it is in the log, and the next look may find it mended
            await repository.rescan(by_order=False)


async def _try_again(repository: Repository) -> None:
    while True:
        await repository.unsettled.wait()
        pause = _FIRST_PAUSE_SECONDS
        while repository.unsettled.is_set():
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            with suppress(Exception):  # it is in the log
                await repository.retry()
