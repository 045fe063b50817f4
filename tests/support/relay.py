"""A line between a caller and a server: it can be held, as by a slow reader, and carry what no gRPC library sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_PART_BYTES = 1 << 14


class Relay:
    """Relays connections to a server on this machine, and what it answers while `reading` is set."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._until_move: tuple[float, int] = (float("inf"), server_port)
        self.port = 0
        """Where to connect to."""
        self.said = self.heard = b""
        """The server hears `heard` where a caller said `said`, which is as long."""
        self.reading = asyncio.Event()
        self.reading.set()

    async def carry(self, caller: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
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

    def move_after(self, size: int, server_port: int) -> None:
        """After `size` more bytes of answers break the connection off; the next ones lead to the server on the port."""
        self._until_move = (size, server_port)

    async def _ask(self, caller: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await caller.read(_PART_BYTES):
                to_server.write(part.replace(self.said, self.heard) if self.said else part)
                await to_server.drain()

    async def _answer(self, server: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await server.read(_PART_BYTES):
                await self.reading.wait()
                to_caller.write(part)
                await to_caller.drain()
                left, server_port = self._until_move
                self._until_move = (left - len(part), server_port)
                if left <= len(part):
                    self.move_after(1 << 40, server_port)
                    self._server_port = server_port
                    return


@asynccontextmanager
async def relay_to(server_port: int) -> AsyncIterator[Relay]:
    """A relay to the server on the port, until the end of the block."""
    relay = Relay(server_port)
    async with asyncio.TaskGroup() as group:
        lines: list[asyncio.Task[None]] = []

        def connected(caller: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
            lines.append(group.create_task(relay.carry(caller, to_caller)))

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as listener:
            relay.port = listener.sockets[0].getsockname()[1]
            yield relay
        for line in lines:
            line.cancel()
