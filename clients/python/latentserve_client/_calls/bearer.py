"""Bearer tokens: where a client has them from, and where it sends them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from latentserve_client._calls.channel import is_on_this_machine
from latentserve_client.errors import RequestError

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_MAX_FILE_BYTES = 1 << 16


class TokenFile:
    """The token in a file, read for every call: whoever replaces the file need not tell the client.

    Args:
        path: the file, which holds the token alone; white space around it does not count.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def __call__(self) -> str:
        """The token now.

        Raises:
            OSError: the file cannot be read. RequestError: what is in it is no token.
        """
        with self._path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES).decode("ascii", "replace").strip()
        if not _TOKEN.fullmatch(text):
            raise RequestError(f"{self._path} does not hold a token alone: letters, digits and -._~+/")
        return text

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r})"


Token = str | Callable[[], str]
"""A token, or what gives the one that is valid now."""


class Bearer:
    """The metadata that tells a server who calls.

    Args:
        token: the token; None sends none.

    Raises:
        RequestError: it is none. The message does not repeat it.
    """

    def __init__(self, token: Token | None) -> None:
        self._token = token
        if isinstance(token, str):
            _check(token)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """To be sent along with a call; asks for the token that is valid now.

        Raises:
            RequestError: what was given is no token.
        """
        if self._token is None:
            return ()
        return (("authorization", f"Bearer {self._token if isinstance(self._token, str) else _check(self._token())}"),)


def check_secrecy(target: str, *, has_token: bool, is_encrypted: bool, allowed: bool) -> None:
    """Refuse to send a token where others may read it: to another machine in plain text.

    Raises:
        RequestError: it would be sent there, and that is not `allowed`.
    """
    if has_token and not is_encrypted and not allowed and not is_on_this_machine(target):
        raise RequestError(
            f"server {target!r}: a token is not sent to another machine in plain text; give credentials for TLS, or "
            "allow it by token_in_plain_text (--token-in-plain-text) where the network itself is encrypted"
        )


def _check(token: str) -> str:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise RequestError("token: is no bearer token; letters, digits and -._~+/ are allowed")
    return token
