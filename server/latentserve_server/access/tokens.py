"""Tokens `ls_<id>_<secret>`, and the table of those that are known.

The table holds a SHA-256 digest of each secret. A secret is 256 bits from the operating system's generator, so nobody
finds it from its digest by trying, and a slow hash, as passwords need, would only make every call slow.
"""

from __future__ import annotations

import hmac
import math
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from latentserve_server.access.caller import Caller
from latentserve_server.errors import Unauthenticated

PREFIX = "ls_"
"""By which scanners for secrets find tokens, and JSON Web Tokens are told from them."""
ID = re.compile(r"[a-z0-9]{1,32}")
_SECRET_BYTES = 32
_FORM = re.compile(rf"{PREFIX}({ID.pattern})_([A-Za-z0-9_-]{{43,128}})")
_NO_DIGEST = bytes(32)
"""Of no secret that anybody knows."""


class NewToken(NamedTuple):
    """A token that nobody has seen yet."""

    text: str
    id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """What is known of a token."""

    id: str
    digest: bytes
    """SHA-256 of the secret."""
    caller: Caller
    expires: float = math.inf
    """The second since 1970 from which on it is not valid."""


def make_token() -> NewToken:
    """A new token, drawn at random."""
    identity, secret = secrets.token_hex(4), secrets.token_urlsafe(_SECRET_BYTES)
    return NewToken(f"{PREFIX}{identity}_{secret}", identity, _digest(secret))


class TokenTable:
    """The tokens that are known, by their ids."""

    def __init__(self, entries: Iterable[TokenEntry] = ()) -> None:
        self._entries = {entry.id: entry for entry in entries}

    def __len__(self) -> int:
        return len(self._entries)

    def caller_of(self, token: str) -> Caller:
        """The caller whom a token names. One with an unknown id takes as long as one with a wrong secret.

        Raises:
            Unauthenticated: it is no token, or none that is known, or not valid any more.
        """
        match = _FORM.fullmatch(token)
        if match is None:
            raise Unauthenticated("malformed")
        identity, secret = match.groups()
        entry = self._entries.get(identity)
        is_right = hmac.compare_digest(_digest(secret), _NO_DIGEST if entry is None else entry.digest)
        if entry is None or not is_right:
            raise Unauthenticated("unknown" if entry is None else "secret", identity)
        if time.time() >= entry.expires:
            raise Unauthenticated("expired", identity)
        return entry.caller


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
