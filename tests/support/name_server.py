"""A name server on this machine, whose one answer can be changed."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

_ADDRESS, _INTERNET = 1, 1
_NAME_OF_THE_QUESTION = 0xC00C
_SECONDS_TO_LIVE = 1


class NameServer(asyncio.DatagramProtocol):
    """Says that every name has these addresses (RFC 1035)."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self._transport: Any = None

    @property
    def port(self) -> int:
        """Where it is asked, on 127.0.0.1."""
        return int(self._transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        end = data.index(b"\0", 12) + 5
        (kind,) = struct.unpack(">H", data[end - 4 : end - 2])
        found = self.addresses if kind == _ADDRESS else []
        answers = [
            struct.pack(">HHHIH", _NAME_OF_THE_QUESTION, _ADDRESS, _INTERNET, _SECONDS_TO_LIVE, 4)
            + socket.inet_aton(address)
            for address in found
        ]
        head = data[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0)
        self._transport.sendto(head + data[12:end] + b"".join(answers), addr)


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncIterator[NameServer]:
    """A name server, until the end of the block."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer([*addresses]), ("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
