"""Sending the messages of a stream, with a limit for readers that do not read."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from latentserve_server.errors import Unread


class Sender:
    """Sends the messages of one call's stream; waits at most `seconds` for the reader of each."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any], *, seconds: float) -> None:
        self._context = context
        self._seconds = seconds
        self._begun = False

    async def send(self, message: Any) -> None:
        """Send a message; it returns when gRPC has taken it, which holds one for a reader who is behind.

        Raises:
            Unread: nobody made room for it in time.
        """
        try:
            async with asyncio.timeout(self._seconds):
                await self._begin()
                await self._context.write(message)
        except TimeoutError:
            raise Unread(f"nobody read the stream for {self._seconds:g} s") from None

    async def _begin(self) -> None:
        # gRPC counts headers that are sent with the first message as unsent until that message is. A status sent while
        # it waits would send the headers again, and no status would arrive.
        if not self._begun:
            await self._context.send_initial_metadata(())
            self._begun = True
