"""A store that hands over one version only when it is let, in the place of a slow one where a test decides what happens
first."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from held_graph import BACKSTOP_SECONDS

from latentserve_server.repository.store import LocalStore


class HeldStore(LocalStore):
    """The models of a directory, of which the bundles of one version are fetched when the test says so."""

    def __init__(self, root: Path, version: int) -> None:
        super().__init__(root)
        self._version = version
        self._asked = threading.Event()
        self._let = threading.Event()

    def fetch(self, name: str, version: int, digest: str) -> Path:
        """Wait until the version may be had, if it is the one."""
        if version == self._version:
            self._asked.set()
            if not self._let.wait(BACKSTOP_SECONDS):
                raise TimeoutError("the test let no bundle be fetched")
        return super().fetch(name, version, digest)

    async def asked(self) -> None:
        """Wait until the server wants the version, so that it is loading it."""
        if not await asyncio.to_thread(self._asked.wait, BACKSTOP_SECONDS):
            raise TimeoutError("the server asked for no bundle")

    def let(self) -> None:
        """Let the version be had from now on."""
        self._let.set()
