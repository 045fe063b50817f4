"""What is let in: calls at a time, bytes under way, requests of so many fields, and headers."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from typing import Generic, Protocol, TypeVar

from google.protobuf.descriptor import Descriptor

from latentserve.contract import REQUEST_ID_KEY
from latentserve_server.errors import InvalidArgument, LatentServeError, Overloaded, ShuttingDown
from latentserve_server.wire.field_count import FieldLimits, count_fields

STOPPING = "the server is stopping; ask another one"


def come_back_seconds() -> float:
    """When a refused caller is to come back, drawn at random, so that those of a burst do not return as one."""
    return random.uniform(0.5, 1.5)


class Admitted(Protocol):
    """A call that may be cut off."""

    def cut_off(self) -> None:
        """End the call: the server stops."""
        ...


CallT = TypeVar("CallT", bound=Admitted)


class Admission(Generic[CallT]):
    """Counts the calls under way, from their acceptance until their reply has left."""

    def __init__(self, max_calls: int) -> None:
        """`max_calls` is how many may be under way at a time."""
        self._max_calls = max_calls
        self.under_way: set[CallT] = set()
        """The calls that are."""
        self._unsent: set[CallT] = set()
        self._idle = asyncio.Event()
        self.draining = asyncio.Event()
        """Set from the moment on from which no call is taken."""

    @property
    def is_draining(self) -> bool:
        """Whether no call is taken any more."""
        return self.draining.is_set()

    def is_busy(self) -> bool:
        """Whether calls are under way."""
        return bool(self.under_way)

    def refusal(self) -> LatentServeError | None:
        """Why a call that comes now is not taken; None where it is."""
        if self.is_draining:
            return ShuttingDown(STOPPING)
        if len(self.under_way) < self._max_calls:
            return None
        text = f"{len(self.under_way)} of at most {self._max_calls} calls are under way"
        return Overloaded(text, retry_after=come_back_seconds())

    def take(self, call: CallT) -> None:
        """Count a call, which has a place until `leave`."""
        self.under_way.add(call)

    def begin(self, call: CallT) -> None:
        """Have `drain` wait until the call has been answered, and its reply has left."""
        self._unsent.add(call)

    def leave(self, call: CallT) -> None:
        """Count a call no longer: its reply has left, or nobody reads it."""
        self.under_way.discard(call)
        self._unsent.discard(call)
        if self.is_draining and not self._unsent:
            self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Refuse new calls as UNAVAILABLE from now on, and return when the reply of the last one has left.

        Calls that are not answered after `seconds` are cut off.
        """
        self.draining.set()
        if self._unsent:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)
        for call in list(self._unsent):  # some leave at once
            call.cut_off()


class BytesUnderWay:
    """Counts the bytes of all requests up to a limit. What one takes while it is answered is a few times its bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.total = 0

    def enter(self, size: int) -> None:
        """Count a request that has arrived.

        Raises:
            Overloaded: it goes beyond the limit.
        """
        if self.total + size > self._limit:
            raise Overloaded(f"{self.total} of at most {self._limit} bytes are under way; {size} more do not fit")
        self.total += size

    def leave(self, size: int) -> None:
        """Count a request no longer: it was answered."""
        self.total -= size


FREE_BYTES = 1 << 12
"""A message of fewer bytes is parsed at once: its fields take half a millisecond at most."""


def check_fields(raw: bytes, message: Descriptor, limits: FieldLimits) -> None:
    """Hold a serialised request, unless it is small, to limits that no valid one exceeds.

    Raises:
        InvalidArgument: there is more of something than is allowed, which the error names, or the bytes are no message.
    """
    if len(raw) >= FREE_BYTES:
        count_fields(raw, message, limits)


HEADER_ROOM = 4
"""What gRPC itself takes of headers, as a multiple of the limit: it refuses those beyond, and nobody hears of them."""

_ENTRY_BYTES = 32
"""What HTTP/2 counts for a header beside its name and value (RFC 9113, 6.5.2)."""


_MAX_REQUEST_ID = 128
_PRINTABLE = re.compile(r"[ -~]+")
"""The characters that gRPC allows in metadata."""


class Headers:
    """What the metadata of calls may be, and the ids of those that bring none."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` is what HTTP/2 may count for the metadata of one call."""
        self._max_bytes = max_bytes
        self._ids = (f"{number:032x}" for number in count(random.getrandbits(96) << 32))

    def read(self, metadata: Iterable[tuple[str, str | bytes]]) -> tuple[str, LatentServeError | None]:
        """The caller's id of the call, or a new one; and why the call is refused, or None where it is not."""
        size, request_id = 0, ""
        for key, value in metadata:
            size += len(key) + len(value) + _ENTRY_BYTES
            if key == REQUEST_ID_KEY and not request_id:
                asked = str(value)[:_MAX_REQUEST_ID]
                request_id = asked if _PRINTABLE.fullmatch(asked) else ""
        refusal = None
        if size > self._max_bytes:
            refusal = InvalidArgument("headers", f"{size} bytes; {self._max_bytes} are allowed")
        return request_id or next(self._ids), refusal
