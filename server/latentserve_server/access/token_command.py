"""The command `latentserve-server token`, which makes a token."""

from __future__ import annotations

import argparse
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, TypeVar

from latentserve_server.access.caller import Scope
from latentserve_server.access.token_file import (
    LIMITS,
    read_count,
    read_expiry,
    read_models,
    read_name,
    read_rate,
    read_scopes,
    read_token_file,
    write_token_entry,
)
from latentserve_server.access.tokens import NewToken, make_token
from latentserve_server.errors import ConfigError

T = TypeVar("T")

_PROG = "latentserve-server token"
_DAY_SECONDS = 86400
_OPTIONAL = ("models", "expires", *LIMITS)
_EXIT_FAILURE = 1
_EXIT_USAGE = 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message.removeprefix("argument "))


def main(arguments: Sequence[str]) -> int:
    """Print a new token on standard output, and its entry on standard error or into a file; returns the exit status."""
    try:
        asked = _parser().parse_args(arguments)
    except ConfigError as error:
        return _fail(error, _EXIT_USAGE)
    token = make_token()
    entry = _entry(asked, token)
    try:
        if asked.file is not None:
            _append(asked.file, entry)
    except ConfigError as error:
        return _fail(error, _EXIT_FAILURE)
    sys.stderr.write(entry if asked.file is None else f"{asked.file}: has an entry for {token.id}, of {asked.name}\n")
    sys.stdout.write(f"{token.text}\n")
    return 0


def _fail(error: ConfigError, status: int) -> int:
    sys.stderr.write(f"{_PROG}: {' '.join(str(error).split())}\n")
    return status


def _parser() -> _Parser:
    parser = _Parser(
        prog=_PROG,
        description="Make a token for a caller, and print it: it is kept nowhere. The entry for the file that --tokens "
        "of the server names has only a digest of it, and is printed on standard error, or appended to a file.",
        allow_abbrev=False,
    )
    parser.add_argument("--name", required=True, type=_read(read_name), help="the caller's, for the log and metrics")
    scopes = f"of {', '.join(Scope)}, separated by commas (default: {Scope.GENERATE})"
    parser.add_argument("--scopes", type=_read(_scopes), default=Scope.GENERATE.value, help=scopes)
    models = "names of models or patterns such as vae-*, separated by commas (default: all)"
    parser.add_argument("--models", type=_read(_models), help=models)
    expiry = parser.add_mutually_exclusive_group()
    text = "date and time from which on it is not valid, such as 2027-01-31T00:00:00Z (default: valid for good)"
    expiry.add_argument("--expires", type=_read(_expiry), help=text)
    expiry.add_argument("--days", type=_read(_days), dest="expires", help="the same, so many days from now")
    text = "that the caller may have; 0: without bound (default: as the server's options say)"
    parser.add_argument("--calls-per-second", type=_read(read_rate), help=f"calls a second {text}")
    parser.add_argument("--rows-per-second", type=_read(read_rate), help=f"rows a second {text}")
    parser.add_argument("--rows-in-flight", type=_read(read_count), help=f"rows at a time {text}")
    parser.add_argument("--calls-in-flight", type=_read(read_count), help=f"calls at a time {text}")
    parser.add_argument("--file", type=Path, help="file of tokens to append the entry to; made where there is none")
    return parser


def _read(read: Callable[[str], T]) -> Callable[[str], T]:
    def read_argument(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read_argument


def _scopes(text: str) -> list[str]:
    return sorted(scope.value for scope in read_scopes(text.split(",")))


def _models(text: str) -> list[str]:
    return list(read_models(text.split(",")))


def _expiry(text: str) -> str:
    read_expiry(text)
    return text


def _days(text: str) -> str:
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 < days <= 36500:
        raise ValueError(f"{text[:80]!r} is no number of days, above 0 and at most 36500")
    return datetime.fromtimestamp(math.ceil(time.time() + days * _DAY_SECONDS), UTC).isoformat().replace("+00:00", "Z")


def _entry(asked: argparse.Namespace, token: NewToken) -> str:
    """The entry's text."""
    wanted = {"name": asked.name, "id": token.id, "sha256": token.digest.hex(), "scopes": asked.scopes}
    optional = {name: getattr(asked, name) for name in _OPTIONAL}
    return write_token_entry(wanted | {key: value for key, value in optional.items() if value is not None})


def _append(path: Path, entry: str) -> None:
    """Append an entry to the file, or make it, in one step: whoever reads it finds it as before, or whole.

    Raises:
        ConfigError: it cannot be read or written, or would make no sense.
    """
    try:
        path = path.resolve()  # a link stays one
        before = path.read_bytes() if path.exists() else b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        data = (b"" if before.strip() == b"[]" else before) + entry.encode()
        read_token_file(data, str(path))
        _replace(path, data)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _replace(path: Path, data: bytes) -> None:
    """Nobody else may read a file that was not there; one that was keeps its mode and its owner."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            before = path.stat()
            os.chown(draft, before.st_uid, before.st_gid)
            draft.chmod(before.st_mode & 0o7777)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
