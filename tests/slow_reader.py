"""A caller's line that can be held: what the server sends stays where it is until the caller reads on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_PART_BYTES = 1 << 14


class SlowReader:
    """Relays one connection after another to a server on this machine, and its answers while `reading` is set."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.port = 0
        """Where to connect to."""
        self.reading = asyncio.Event()
        self.reading.set()

    async def relay(self, caller: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until either side is closed."""
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        ways = [asyncio.ensure_future(way) for way in (self._ask(caller, to_server), self._answer(server, to_caller))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            to_server.close()
            to_caller.close()

    async def _ask(self, caller: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await caller.read(_PART_BYTES):
                to_server.write(part)
                await to_server.drain()

    async def _answer(self, server: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await server.read(_PART_BYTES):
                await self.reading.wait()
                to_caller.write(part)
                await to_caller.drain()


@asynccontextmanager
async def slow_reader(server_port: int) -> AsyncIterator[SlowReader]:
    """A reader of the server on the port; its callers go before the block ends."""
    reader = SlowReader(server_port)
    async with asyncio.TaskGroup() as relays:

        def connected(caller: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
            relays.create_task(reader.relay(caller, to_caller))

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as listener:
            reader.port = listener.sockets[0].getsockname()[1]
            yield reader
