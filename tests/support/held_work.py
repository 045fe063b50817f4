"""Work for a thread that is held until it is let, in place of long work, where a test decides what ends first."""

from __future__ import annotations

import asyncio
import threading

from held_graph import BACKSTOP_SECONDS


class HeldWork:
    """Work that says when it is under way and goes on when it is let."""

    def __init__(self) -> None:
        self._entered, self._opened = threading.Event(), threading.Event()

    def hold(self) -> None:
        """The work."""
        self._entered.set()
        if not self._opened.wait(BACKSTOP_SECONDS):
            raise TimeoutError("the test let nothing go on")

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()

    async def entered(self) -> None:
        """Wait until it is under way."""
        assert await asyncio.to_thread(self._entered.wait, BACKSTOP_SECONDS)
