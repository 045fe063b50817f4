"""The public keys of who signs JSON Web Tokens, from a file or an https URL; renewed beside the calls."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from typing import Any, NamedTuple, Protocol, TypeAlias
from urllib.request import Request

from jwt import PyJWK, PyJWTError

from latentserve_server.access.followed_file import FollowedFile
from latentserve_server.blocking_calls import on_thread
from latentserve_server.errors import ConfigError

_logger = logging.getLogger(__name__)

RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
"""Algorithms of RSA keys."""
ALGORITHMS = frozenset({*RSA, "ES256", "ES384", "ES512", "EdDSA"})
"""Those that are taken. None is symmetric: a public key would be the secret of such a signature."""


class Key(NamedTuple):
    """A public key, and the algorithms of the signatures that it may verify."""

    public: Any
    algorithms: Sequence[str]


Keys: TypeAlias = Mapping[str, Key]
"""By their ids; that of a key without one is empty."""

_FETCH_SECONDS = 10.0
_RENEWAL_SECONDS = 300.0
"""Between two fetches, so that a key that was withdrawn does not count for much longer."""
_RETRY_SECONDS = 5.0
"""Between two fetches for keys that are not there: whoever sends tokens with made-up keys causes no more."""
_MAX_BYTES = 1 << 20
_KINDS = ("RSA", "EC", "OKP")
"""Of asymmetric keys."""


class KeySet(Protocol):
    """Keys that may change."""

    @property
    def keys(self) -> Keys:
        """Those that count now."""
        ...

    @property
    def is_stale(self) -> bool:
        """Whether they cannot be had now, so that those of before count."""
        ...

    def is_being_renewed(self) -> bool:
        """Whether a key that is not there may be there soon; asks for that where it is time to."""
        ...

    async def follow(self, changed: Callable[[], None]) -> None:
        """Keep them up to date, and say when they have changed. Ends by cancellation alone."""
        ...


def read_keys(data: bytes, place: str) -> Keys:
    """The public keys for signatures of a JSON Web Key Set (RFC 7517). Keys of other kinds are passed over.

    Raises:
        ConfigError: it is none, or holds no such key, or a private one.
    """
    try:
        entries = [dict(entry) for entry in json.loads(data)["keys"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"{place}: is no JSON Web Key Set") from error
    if any(entry.get("kty") in _KINDS and "d" in entry for entry in entries):
        raise ConfigError(f"{place}: holds a private key; whoever has it makes tokens, and public ones verify them")
    keys = {str(entry.get("kid", "")): key for entry in entries if (key := _key(entry)) is not None}
    if not keys:
        known = ", ".join(sorted(ALGORITHMS))
        raise ConfigError(f"{place}: holds no public key for signatures of {known}, of RSA with 2048 bits or more")
    return keys


def _key(entry: dict[str, Any]) -> Key | None:
    if entry.get("kty") not in _KINDS or entry.get("use", "sig") != "sig":
        return None
    try:
        found = PyJWK(entry)
        if found.algorithm_name not in ALGORITHMS or found.Algorithm.check_key_length(found.key):
            return None
    except (PyJWTError, ValueError, TypeError):
        return None
    is_any_of_rsa = entry["kty"] == "RSA" and not entry.get("alg")
    return Key(found.key, RSA if is_any_of_rsa else (found.algorithm_name,))


class KeyFile:
    """The keys of a file."""

    def __init__(self, path: str) -> None:
        """Read it.

        Raises:
            ConfigError: it cannot be read, or holds no keys.
        """
        self._file = FollowedFile("--jwt-keys", path, read_keys, may_be_read=True)

    @property
    def keys(self) -> Keys:
        """Those that the file holds."""
        return self._file.value

    @property
    def is_stale(self) -> bool:
        """Whether the file makes no sense now."""
        return self._file.is_stale

    def is_being_renewed(self) -> bool:
        """Never: it is looked at often enough."""
        return False

    async def follow(self, changed: Callable[[], None]) -> None:
        """Follow the file."""
        await self._file.follow(changed)


class KeyUrl:
    """The keys of a URL, which are fetched on a thread."""

    def __init__(self, url: str) -> None:
        """Nothing is fetched yet."""
        self._url = url
        self._data = b""
        self._problem = ""
        self._is_fetching = True
        self._last_fetch = 0.0
        self._wanted = asyncio.Event()
        self.keys: Keys = {}
        """Those that were fetched last."""

    @property
    def is_stale(self) -> bool:
        """Whether the last fetch failed."""
        return bool(self._problem)

    def is_being_renewed(self) -> bool:
        """Whether they are being fetched, or have never been; where the last fetch is long ago, another is begun."""
        if not self._is_fetching and time.monotonic() - self._last_fetch >= _RETRY_SECONDS:
            self._is_fetching = True
            self._wanted.set()
        return self._is_fetching or not self.keys

    async def follow(self, changed: Callable[[], None]) -> None:
        """Fetch them now, from time to time, and when a key is missing."""
        while True:
            self._is_fetching = True
            try:
                data, keys = await on_thread("fetch of --jwt-keys", self._fetch)
            except Exception as error:  # whatever it is, the next fetch may succeed
                if str(error) != self._problem:
                    self._problem = str(error)
                    _logger.error("the keys of before count on: %s", error)
            else:
                if data != self._data:
                    self._data, self.keys = data, keys
                    _logger.info("%d keys were fetched from --jwt-keys %s", len(keys), self._url)
                    changed()
                self._problem = ""
            self._last_fetch = time.monotonic()
            self._is_fetching = False
            self._wanted.clear()
            try:
                pause = _RENEWAL_SECONDS if not self._problem else _RETRY_SECONDS
                await asyncio.wait_for(self._wanted.wait(), pause)
            except TimeoutError:
                pass

    def _fetch(self) -> tuple[bytes, Keys]:
        opener = urllib.request.build_opener(_NoRedirects)
        try:
            with opener.open(Request(self._url), timeout=_FETCH_SECONDS) as reply:  # noqa: S310  # https alone is let in
                data: bytes = reply.read(_MAX_BYTES + 1)
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise ConfigError(f"--jwt-keys {self._url}: cannot be fetched: {error}") from error
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"--jwt-keys {self._url}: is over {_MAX_BYTES} bytes")
        return data, read_keys(data, f"--jwt-keys {self._url}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirection is an error: it might lead to where nothing is encrypted."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""
