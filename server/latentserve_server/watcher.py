"""Looks for changes in the repository from time to time."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from latentserve_server.repository import Repository


async def watch(repository: Repository, interval: float) -> None:
    """Follow the repository's directory every `interval` seconds, until cancelled.

    A version that failed is not tried again until its manifest changes.
    """
    while True:
        await asyncio.sleep(interval)
        with suppress(Exception):  # it is in the log, and the next look may find it mended
            await repository.rescan(retry=False)
