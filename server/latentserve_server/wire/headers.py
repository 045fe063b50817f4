"""A bound on the headers of a call."""

from __future__ import annotations

from collections.abc import Iterable

from latentserve_server.errors import InvalidArgument

ROOM = 4
"""What gRPC itself takes of headers, as a multiple of the limit: it refuses those beyond, and nobody hears of them."""

_ENTRY_BYTES = 32
"""What HTTP/2 counts for a header beside its name and value (RFC 9113, 6.5.2)."""


def check_headers(metadata: Iterable[tuple[str, str | bytes]], limit: int) -> InvalidArgument | None:
    """Why a call with this metadata is refused, as HTTP/2 counts bytes; None where it is not."""
    size = sum(len(name) + len(value) + _ENTRY_BYTES for name, value in metadata)
    return InvalidArgument("headers", f"{size} bytes; {limit} are allowed") if size > limit else None
