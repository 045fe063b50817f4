"""Logging to standard error: JSON or text lines, request ids, crash stacks."""

from __future__ import annotations

import faulthandler
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from contextvars import ContextVar
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

from latentserve_server.telemetry.log_writer import LineStream, LogWriter
from latentserve_server.telemetry.native_lines import native_lines_logged

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request that the running task answers; empty outside one."""

_STANDARD_ERROR = 2
_LAST_LINES_SECONDS = 1.0
"""For the last lines to be written, where nobody reads them."""


class _RequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if current := request_id.get():
            record.request_id = current
        return True


class _WriterHandler(logging.Handler):
    """Formats a record where it is logged, and leaves the line to the writer."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.writer = LogWriter(descriptor, self._notice)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.put(self.format(record))
        except Exception:
            self.handleError(record)

    def _notice(self, dropped: int) -> str:
        message = "%d log lines were dropped, because they could not be written"
        record = logging.LogRecord(__name__, logging.WARNING, "", 0, message, (dropped,), None)
        record.dropped = dropped
        return self.format(record)


@contextmanager
def log_to_standard_error(level: str, style: Literal["json", "text"], worker: int | None = None) -> Iterator[LogWriter]:
    """Send this process's log lines, and what is printed to standard error, there from a thread, within the block.

    A slow reader of standard error holds up neither Python nor the native libraries, whose lines come as log lines,
    too. Only a crash writes there directly: Python's stacks. Lines of a `worker` have its number.
    """
    descriptor = os.dup(_STANDARD_ERROR)
    handler = _WriterHandler(descriptor)
    handler.addFilter(_RequestId())
    handler.setFormatter(_formatter(style, worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    writer = handler.writer
    writer.start()
    try:
        with _stacks_of_a_crash(descriptor), redirect_stderr(LineStream(writer)), native_lines_logged():
            yield writer
    finally:
        writer.close(_LAST_LINES_SECONDS)


@contextmanager
def _stacks_of_a_crash(descriptor: int) -> Iterator[None]:
    """Have Python write its stacks where a library ends the process, unless that is arranged already."""
    if faulthandler.is_enabled():
        yield
        return
    faulthandler.enable(descriptor)
    try:
        yield
    finally:
        faulthandler.disable()


def _formatter(style: Literal["json", "text"], worker: int | None) -> logging.Formatter:
    if style == "text":
        whose = "" if worker is None else f"worker {worker}: "
        return logging.Formatter(f"%(asctime)s %(levelname)-7s {whose}%(message)s", datefmt="%H:%M:%S")
    fields = "{asctime}{levelname}{name}{message}"
    rename = {"asctime": "time", "levelname": "level", "name": "logger"}
    static = {} if worker is None else {"worker": worker}
    return JsonFormatter(fields, style="{", rename_fields=rename, static_fields=static, datefmt="%Y-%m-%dT%H:%M:%S%z")
