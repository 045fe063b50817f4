"""Standard output and standard error, also where nobody reads them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import TextIO

UNREAD = 141
"""The exit code that a shell shows for a command ended by SIGPIPE, as most are when their reader leaves."""
_FAILURE = 1


class OutputError(OSError):
    """Standard output cannot be written to; `filename` names it."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.errno, error.strerror, "standard output")


def say(text: str) -> None:
    """Write to standard output and flush; characters outside its encoding, as in file names, are escaped.

    Raises:
        OutputError: it takes no more.
    """
    if sys.stdout is None:  # where the process was started without one
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(error) from error


def complain(line: str) -> None:
    """Write one line to standard error; if that fails, the exit code has to suffice."""
    explain(" ".join(line.split()) + "\n")


def explain(text: str) -> None:
    """Write to standard error as it is; if that fails, the exit code has to suffice."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)


def written_out(command: Callable[[], int], prog: str) -> int:
    """The exit code of `command` once its output is flushed, or that of an output that cannot be written."""
    try:
        try:
            return command()
        finally:
            say("")
    except OutputError as error:
        _drop(sys.stdout)
        if error.errno == errno.EPIPE:
            return UNREAD
        complain(f"{prog}: error: {error.filename}: {error.strerror}")
        return _FAILURE


def _drop(stream: TextIO) -> None:
    """Discard what the stream still buffers; else Python retries at exit and changes the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
