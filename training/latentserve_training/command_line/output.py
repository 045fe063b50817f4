"""What a command tells on standard output and standard error, and how it ends where nobody takes that."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import TextIO

UNREAD = 141
"""What a shell shows of a command that SIGPIPE has ended, as it ends most commands whose reader leaves."""
_FAILURE = 1


class OutputError(OSError):
    """Standard output takes no more; `filename` says that it is meant."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.errno, error.strerror, "standard output")


def say(text: str) -> None:
    """Write to standard output, at once; what its encoding does not have, as in names of files, is escaped.

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
    """Write one line to standard error; where nobody takes it, the exit code has to do."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(" ".join(line.split()) + "\n")
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)


def written_out(command: Callable[[], int], prog: str) -> int:
    """The exit code of `command`, once all that it printed is on its way, or that of an output that takes no more."""
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
    """Let what the stream still holds go nowhere; else Python tries again as it ends, and changes the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
