"""Just enough HTTP/2 to make one gRPC call again and again on a connection, in about 20 us of a core each.

Headers are not decoded: whoever counts on the answers counts their bytes, and asks the server how many there were.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterable

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
LARGEST_WINDOW, FIRST_WINDOW = 2**31 - 1, 65535
REFILL_BYTES = 2**24
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
READ_BYTES = 2**18


class CallError(Exception):
    """Why the calls could not be made."""


def http2_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(fields: Iterable[tuple[str, str]]) -> bytes:
    """Header fields in HPACK's plainest form: literal, and in no table, so every call's are the same bytes."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def _text(value: str) -> bytes:
    data = value.encode()
    if len(data) > 126:
        raise CallError(f"a header of {len(data)} bytes")
    return bytes([len(data)]) + data


class Connection:
    """One connection, and the calls under way on it."""

    def __init__(self, host: str, port: int, block: bytes, message: bytes) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._block, self._message = block, message
        self._stream, self._window, self._most = 1, FIRST_WINDOW, LARGEST_WINDOW
        self._waiting: deque[float] = deque()
        self._sent: dict[int, float] = {}
        self._read = bytearray()
        self._unacknowledged = 0
        self.data_bytes = 0
        settings = http2_frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, LARGEST_WINDOW))
        wider = http2_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST_WINDOW - FIRST_WINDOW))
        self.socket.sendall(PREFACE + settings + wider)

    def call(self, due: float) -> None:
        """Begin a call, or let it wait where the server takes no more at present."""
        self._waiting.append(due)
        self._flush()

    def _flush(self) -> None:
        frames = []
        while self._waiting and len(self._sent) < self._most and self._window >= len(self._message):
            self._window -= len(self._message)
            frames.append(http2_frame(HEADERS, END_HEADERS, self._stream, self._block))
            frames.append(http2_frame(DATA, END_STREAM, self._stream, self._message))
            self._sent[self._stream] = self._waiting.popleft()
            self._stream += 2
        if frames:
            self.socket.sendall(b"".join(frames))

    def receive(self) -> list[float]:
        """Read what has come: when the calls that have ended were due. Raises CallError for one that was broken off."""
        read = self.socket.recv(READ_BYTES)
        if not read:
            raise CallError("the server closed a connection")
        self._read += read
        ended, place, replies = [], 0, list[bytes]()
        while len(self._read) - place >= 9:
            size = int.from_bytes(self._read[place : place + 3], "big")
            if len(self._read) - place < 9 + size:
                break
            kind, flags, stream = struct.unpack_from(">BBI", self._read, place + 3)
            payload = bytes(self._read[place + 9 : place + 9 + size]) if kind >= RST_STREAM else b""
            place += 9 + size
            if kind == HEADERS and flags & END_STREAM:
                ended.append(self._sent.pop(stream))
            elif kind == DATA:
                self.data_bytes += size
                self._unacknowledged += size
            else:
                replies += self._control(kind, flags, payload)
        del self._read[:place]
        if self._unacknowledged > REFILL_BYTES:
            replies.append(http2_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unacknowledged)))
            self._unacknowledged = 0
        if replies:
            self.socket.sendall(b"".join(replies))
        self._flush()
        return ended

    def _control(self, kind: int, flags: int, payload: bytes) -> list[bytes]:
        """Frames that answer one which carries no call."""
        if kind in (RST_STREAM, GOAWAY):
            what = "a call" if kind == RST_STREAM else "a connection"
            raise CallError(f"the server broke off {what}, by error {int.from_bytes(payload[-4:], 'big')} of HTTP/2")
        if kind == WINDOW_UPDATE:  # of a stream, too: a message is smaller than any stream's first window
            self._window = min(LARGEST_WINDOW, self._window + int.from_bytes(payload, "big"))
        if kind == SETTINGS:
            self._most = dict(struct.iter_unpack(">HI", payload)).get(MAX_CONCURRENT_STREAMS, self._most)
        if kind in (SETTINGS, PING) and not flags & ACK:
            return [http2_frame(kind, ACK, 0, payload if kind == PING else b"")]
        return []


def connect(target: str, method: str, message: bytes, count: int) -> list[Connection]:
    """So many connections, on which `method` is called with the framed `message`. Raises CallError or OSError."""
    if len(message) > FIRST_WINDOW // 4:
        raise CallError(f"a request of {len(message)} bytes is too large for this client")
    host, _, port = target.rpartition(":")
    fields = {":method": "POST", ":scheme": "http", ":path": method, ":authority": target}
    fields |= {"content-type": "application/grpc", "te": "trailers"}
    block = header_block(fields.items())
    return [Connection(host, int(port), block, message) for _ in range(count)]
