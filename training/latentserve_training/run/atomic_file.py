"""Atomic replacement of a file: written beside it, flushed to disk, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def temporary_path(path: Path) -> Path:
    """The temporary file in which the next content of `path` is written."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block succeeds; else `path` stays as it was.

    Raises:
        OSError: the file cannot be written, as on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    # What a kill left here may be a second name of a file that is still wanted: to be unlinked, never written to.
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write `text` to `path`, unless it is already there.

    Raises:
        OSError: the file cannot be written; what `path` held before is still there.
    """
    if path.is_file() and path.read_bytes() == text.encode():
        return
    with replacing(path) as temporary:
        write_durably(temporary, text.encode())


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path`; on return it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
