"""The file of tokens: a YAML list with an entry for each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from latentserve.contract import NAME
from latentserve_server.access.allowance import Limits
from latentserve_server.access.caller import EVERY_MODEL, Caller, Scope
from latentserve_server.access.tokens import ID, TokenEntry
from latentserve_server.configuration.option import suggest
from latentserve_server.configuration.yaml_file import Node, compose, items_of, line_of, pairs_of, text_of, write
from latentserve_server.errors import ConfigError

JWT_CALLERS = "jwt"
"""What the metrics call all callers with JSON Web Tokens, and so no entry is called."""

LIMITS = ("calls_per_second", "rows_per_second", "rows_in_flight", "calls_in_flight")
"""The keys of what a caller may have."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_COUNT = re.compile(r"[0-9]{1,12}")
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]!-]{1,256}")


@dataclass(frozen=True, slots=True)
class _Key:
    read: Callable[[Node], Any]
    """Raises ValueError, which says what is allowed."""
    is_required: bool = False


def read_token_file(data: bytes, path: str) -> list[TokenEntry]:
    """The entries of a file with these bytes; `path` is for messages.

    Raises:
        ConfigError: it is no list of entries, or one of them is wrong; says in which line.
    """
    root = compose(data, path)
    if root is None:
        raise ConfigError(f"{path}: holds nothing; write [] where there is to be no token")
    items = items_of(root)
    if items is None:
        raise ConfigError(f"{path}:{line_of(root)}: must be a list of entries, each with name, id, sha256 and scopes")
    entries: dict[str, tuple[int, TokenEntry]] = {}
    for item in items:
        entry = _entry(item, path)
        if entry.id in entries:
            first = entries[entry.id][0]
            raise ConfigError(f"{path}:{line_of(item)}: id: {entry.id} stands there twice, first in line {first}")
        entries[entry.id] = line_of(item), entry
    return [entry for _, entry in entries.values()]


def write_token_entry(values: Mapping[str, Any]) -> str:
    """The text of one entry, to be appended to a file."""
    return write([values])


def _entry(item: Node, path: str) -> TokenEntry:
    pairs = pairs_of(item)
    if pairs is None:
        raise ConfigError(f"{path}:{line_of(item)}: must be a mapping with name, id, sha256 and scopes")
    values: dict[str, Any] = {}
    for name, line, value in pairs:
        place = f"{path}:{line}"
        if name is None or name not in _KEYS:
            shown = "a key that is no text" if name is None else name
            raise ConfigError(f"{place}: {shown}: there is no such key{suggest(shown, _KEYS)}")
        if name in values:
            raise ConfigError(f"{place}: {name}: stands there twice")
        try:
            values[name] = _KEYS[name].read(value)
        except ValueError as error:
            raise ConfigError(f"{place}: {name}: {error}") from error
    for name, key in _KEYS.items():
        if key.is_required and name not in values:
            raise ConfigError(f"{path}:{line_of(item)}: {name} is missing")
    limits = Limits(*map(values.get, LIMITS))
    caller = Caller(values["name"], values["scopes"], values.get("models", (EVERY_MODEL,)), values["name"], limits)
    return TokenEntry(values["id"], values["sha256"], caller, values.get("expires", math.inf))


def read_scopes(words: Sequence[str]) -> frozenset[Scope]:
    """The scopes of these names.

    Raises:
        ValueError: one is none, or there is none.
    """
    known = [scope.value for scope in Scope]
    for word in words:
        if word not in known:
            raise ValueError(f"{word!r} is not one of {', '.join(known)}{suggest(word, known)}")
    if not words:
        raise ValueError(f"must be a list of one or more of {', '.join(known)}")
    return frozenset(map(Scope, words))


def read_models(words: Sequence[str]) -> tuple[str, ...]:
    """Patterns of names.

    Raises:
        ValueError: one is none, or there is none.
    """
    if not words:
        raise ValueError("must be a list of one or more names or patterns, such as vae-*")
    for word in words:
        if not _PATTERN.fullmatch(word):
            raise ValueError(f"{word[:80]!r} is no pattern of names: letters, digits, and _ . - * ? [ ] !")
    return tuple(words)


def read_name(text: str) -> str:
    """The name of a caller.

    Raises:
        ValueError: it is none.
    """
    if not NAME.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not 1 to 128 letters, digits, '_', '.' and '-', the first neither . nor -")
    if text == JWT_CALLERS:
        raise ValueError(f"{text!r} stands for all callers with JSON Web Tokens; take another name")
    return text


def read_expiry(text: str) -> float:
    """The second since 1970 of a date and a time with its zone.

    Raises:
        ValueError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{text[:80]!r} is no date and time with its zone, such as 2027-01-31T00:00:00Z")
    return moment.timestamp()


def read_rate(text: str) -> float:
    """A number of something a second.

    Raises:
        ValueError: it is none, or below 0.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no number such as 0.5 or 100; 0 is no bound")
    return float(text)


def read_count(text: str) -> int:
    """A number of things.

    Raises:
        ValueError: it is none, or below 0.
    """
    if not _COUNT.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no whole number such as 100; 0 is no bound")
    return int(text)


def _read_id(text: str) -> str:
    if not ID.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not 1 to 32 of the letters a to z and digits")
    return text


def _read_digest(text: str) -> bytes:
    if not _DIGEST.fullmatch(text):  # which is not repeated: it may be the secret itself
        raise ValueError("must be 64 hexadecimal digits, a to f in lower case: the SHA-256 digest of the secret")
    return bytes.fromhex(text)


def _of_text(read: Callable[[str], Any]) -> Callable[[Node], Any]:
    def read_node(node: Node) -> Any:
        text = text_of(node)
        if text is None:
            raise ValueError("must be one value, neither a list nor a mapping")
        return read(text)

    return read_node


def _of_list(read: Callable[[Sequence[str]], Any]) -> Callable[[Node], Any]:
    def read_node(node: Node) -> Any:
        texts = [text_of(item) for item in items_of(node) or ()]
        words = [text for text in texts if text is not None]
        return read(words if len(words) == len(texts) else ())

    return read_node


_KEYS: Mapping[str, _Key] = {
    "name": _Key(_of_text(read_name), is_required=True),
    "id": _Key(_of_text(_read_id), is_required=True),
    "sha256": _Key(_of_text(_read_digest), is_required=True),
    "scopes": _Key(_of_list(read_scopes), is_required=True),
    "models": _Key(_of_list(read_models)),
    "expires": _Key(_of_text(read_expiry)),
    "calls_per_second": _Key(_of_text(read_rate)),
    "rows_per_second": _Key(_of_text(read_rate)),
    "rows_in_flight": _Key(_of_text(read_count)),
    "calls_in_flight": _Key(_of_text(read_count)),
}
