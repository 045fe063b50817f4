"""A connection that speaks HTTP/2 by hand, to say what no gRPC library lets a caller say."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
CANCEL = 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SAMPLE = "/latentserve.v1.GenerationService/Sample"


class Frame(NamedTuple):
    """A frame of HTTP/2 (RFC 9113, 4.1)."""

    kind: int
    flags: int
    stream: int
    payload: bytes = b""

    def encoded(self) -> bytes:
        """Its bytes."""
        head = struct.pack(">I", len(self.payload))[1:] + struct.pack(">BBI", self.kind, self.flags, self.stream)
        return head + self.payload


def header_block(path: str, fields: Iterable[tuple[str, str]] = ()) -> bytes:
    """The headers of a gRPC call, literal and in no table (RFC 7541, 6.2.2)."""
    own = ((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"))
    all_fields = (*own, ("content-type", "application/grpc"), ("te", "trailers"), *fields)
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in all_fields)


def begun(
    stream: int, *, path: str = SAMPLE, flags: int = END_HEADERS, fields: Iterable[tuple[str, str]] = ()
) -> Frame:
    """The headers of a call, which has no message yet."""
    return Frame(HEADERS, flags, stream, header_block(path, fields))


def given_up(stream: int) -> Frame:
    """The end of a call that its caller waits for no longer."""
    return Frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))


def _text(value: str) -> bytes:
    """A string with its length, an integer with a prefix of 7 bits (RFC 7541, 5.1)."""
    data, length = value.encode(), b""
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest = len(data) - 127
    while rest >= 128:
        length += bytes([rest % 128 + 128])
        rest //= 128
    return b"\x7f" + length + bytes([rest]) + data


def message(data: bytes, claimed: int | None = None) -> bytes:
    """A gRPC message with its prefix, which may claim another length."""
    return struct.pack(">BI", 0, len(data) if claimed is None else claimed) + data


class RawConnection:
    """What is sent by hand, and every frame that came back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_silent: bool) -> None:
        """One that `is_silent` does not even acknowledge what it hears."""
        self._is_silent = is_silent
        self._reader = reader
        self._writer = writer
        self.frames: list[Frame] = []
        """What the server sent, from the first."""
        self.is_closed = False
        """Whether the server has closed the connection."""
        self._news = asyncio.Condition()

    async def say(self, *frames: Frame) -> None:
        """Send frames. A connection that the server has closed takes none."""
        with suppress(ConnectionError):
            self._writer.write(b"".join(frame.encoded() for frame in frames))
            await self._writer.drain()

    def fall_silent(self) -> None:
        """Acknowledge nothing any more, as a peer that has vanished."""
        self._is_silent = True

    async def until(self, kind: int, times: int = 1) -> list[Frame]:
        """The frames of a kind, once there are so many or the connection is closed."""
        async with self._news:
            await self._news.wait_for(lambda: self.is_closed or len(self.of(kind)) >= times)
        return self.of(kind)

    async def until_closed(self) -> None:
        """Return once the server has closed the connection."""
        async with self._news:
            await self._news.wait_for(lambda: self.is_closed)

    def of(self, kind: int) -> list[Frame]:
        """The frames of a kind that came so far."""
        return [frame for frame in self.frames if frame.kind == kind]

    async def listen(self) -> None:
        """Read frames, and acknowledge settings and pings, until the connection is closed."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await self._reader.readexactly(9)
                size, (kind, flags, stream) = int.from_bytes(head[:3]), struct.unpack(">BBI", head[3:])
                frame = Frame(kind, flags, stream, await self._reader.readexactly(size))
                if kind in (SETTINGS, PING) and not flags & ACK and not self._is_silent:
                    await self.say(Frame(kind, ACK, 0, frame.payload if kind == PING else b""))
                async with self._news:
                    self.frames.append(frame)
                    self._news.notify_all()
        async with self._news:
            self.is_closed = True
            self._news.notify_all()


@asynccontextmanager
async def raw_connection(port: int, *, window: int = 65535, says_hello: bool = True) -> AsyncIterator[RawConnection]:
    """A connection to a server on this machine, whose streams may be sent `window` bytes; silent without a hello."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = RawConnection(reader, writer, is_silent=not says_hello)
    listening = asyncio.create_task(connection.listen())
    try:
        if says_hello:
            writer.write(PREFACE)
            await connection.say(Frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window)))
            await connection.until(SETTINGS)
        yield connection
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
