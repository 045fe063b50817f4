"""The alias file of a model, `<name>/aliases.json`."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latentserve.contract import MAX_VERSION, NAME

FILE = "aliases.json"
MAX_ALIASES_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class AliasFile:
    """What a model's alias file says."""

    versions: Mapping[str, int] = field(default_factory=dict)
    """The version that each alias is to name."""
    digest: str = ""
    """SHA-256 of the file in hexadecimal; empty where there is none."""


def read_aliases(directory: Path) -> AliasFile:
    """The alias file of the model in `directory`; an empty one where there is no file.

    Raises:
        ValueError: the file is not an object of versions by alias. OSError: it cannot be read.
    """
    path = directory / FILE
    if not path.is_file():
        return AliasFile()
    with path.open("rb") as file:
        return parse_aliases(file.read(MAX_ALIASES_BYTES + 1))


def parse_aliases(data: bytes) -> AliasFile:
    """What the bytes of an alias file say.

    Raises:
        ValueError: they are not an object of versions by alias.
    """
    if len(data) > MAX_ALIASES_BYTES:
        raise ValueError(f"{FILE}: longer than {MAX_ALIASES_BYTES} bytes")
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{FILE}: not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ValueError(f"{FILE}: not an object of versions by alias")
    for alias, version in parsed.items():
        if not NAME.fullmatch(alias):
            raise ValueError(f"{FILE}: {alias!r} is not an alias: letters, digits, '_', '.' and '-'")
        if type(version) is not int or not 1 <= version <= MAX_VERSION:
            raise ValueError(f"{FILE}: {alias!r} does not name a version, a positive integer")
    return AliasFile(parsed, hashlib.sha256(data).hexdigest())


def alias_bytes(versions: Mapping[str, int]) -> bytes:
    """An alias file of these versions."""
    return (json.dumps(dict(versions), indent=2, sort_keys=True) + "\n").encode()


def write_aliases(directory: Path, versions: Mapping[str, int]) -> AliasFile:
    """Replace the alias file of the model in `directory`, so that a reader sees the old one or the new one.

    Raises:
        OSError: it cannot be written.
    """
    data = alias_bytes(versions)
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=f".{FILE}-")
    staged = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        staged.replace(directory / FILE)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    return AliasFile(dict(versions), hashlib.sha256(data).hexdigest())
