"""How far a long job has come: one line on a terminal, nothing elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self, TextIO


class Progress:
    """Counts rows on `stream` while the block runs, where that is a terminal, and wipes the line afterwards."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._done = 0
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def advance(self, rows: int) -> None:
        """Add `rows` to those done. A job of one call is over then, and shows nothing."""
        self._done += rows
        if self._done < self._total and self._stream.isatty():
            self._shown = True
            self._stream.write(f"\r{self._done} of {self._total}")
            self._stream.flush()
