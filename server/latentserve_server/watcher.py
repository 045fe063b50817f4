"""Looks for changes in the repository from time to time."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from latentserve_server.errors import ChangeRefused
from latentserve_server.repository import Repository


async def watch(repository: Repository, interval: float) -> None:
    """Follow the repository's directory every `interval` seconds, until cancelled.

    A version that failed is not tried again until its manifest changes.
    """
    while True:
        await asyncio.sleep(interval)
        with suppress(ChangeRefused):  # the repository has logged it, and the next look may find it mended
            await repository.rescan(retry=False)
