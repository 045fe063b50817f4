"""The authorization header: the bearer token in it (RFC 6750)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from latentserve_server.errors import Unauthenticated

_KEY = "authorization"
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
"""Spelt out: ignoring case would take twice as long, for every call."""


def bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The token that a call brings along.

    Raises:
        Unauthenticated: there is no such header, or several, or something else in it.
    """
    found: str | bytes | None = None
    for key, value in metadata:
        if key == _KEY:
            if found is not None:
                raise Unauthenticated("malformed")
            found = value
    if found is None:
        raise Unauthenticated("missing")
    match = _BEARER.fullmatch(found) if isinstance(found, str) else None
    if match is None:
        raise Unauthenticated("malformed")
    return match[1]
