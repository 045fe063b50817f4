"""Lines that native libraries write to standard error, as log records.

onnxruntime and gRPC's core write lines of their own kinds there and offer Python no other way.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STANDARD_ERROR = 2
_LAST_LINES_SECONDS = 1.0
"""For the last lines to be read, once nobody writes any more."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_KINDS = {
    "onnxruntime": re.compile(r"[0-9-]+ [0-9:.]+ \[(?P<level>[VIWEF]):onnxruntime:[^]]*\] (?P<message>.*)"),
    "grpc": re.compile(r"(?P<level>[IWEF])[0-9]{4} [0-9:.]+ +[0-9]+ [^ ]+:[0-9]+\] (?P<message>.*)"),
}
_LEVELS = {"V": logging.DEBUG, "I": logging.INFO, "W": logging.WARNING, "E": logging.WARNING, "F": logging.CRITICAL}
"""What a library calls an error may be one that it or the server knows how to go on from. Where a call or a load fails
by it, the server says that at level ERROR itself."""


@contextmanager
def native_lines_logged() -> Iterator[None]:
    """Log what anyone in this process writes to standard error's descriptor within the block. None of them waits."""
    original = os.dup(_STANDARD_ERROR)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # a thread of a library that waits there is as good as lost
    os.dup2(writer, _STANDARD_ERROR)
    os.close(writer)
    thread = threading.Thread(target=_log_lines, args=(reader,), name="native-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(original, _STANDARD_ERROR)
        os.close(original)
        thread.join(_LAST_LINES_SECONDS)


def _log_lines(descriptor: int) -> None:
    with os.fdopen(descriptor, errors="backslashreplace") as lines:
        for line in lines:
            _log(_COLOUR.sub("", line).rstrip())


def _log(line: str) -> None:
    for library, kind in _KINDS.items():
        if (match := kind.fullmatch(line)) is not None:
            logging.getLogger(library).log(_LEVELS[match["level"]], "%s", match["message"])
            return
    if line:
        logging.getLogger("stderr").warning("%s", line)
