"""SIGINT and SIGTERM: a flag the trainer polls, or an immediate end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, Self

EXIT_INTERRUPTED = 130
STOPPED = "stopped by a signal before it was done; run the same command again"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While entered, the first signal only sets `requested`; a second one has its usual effect."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._request) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """While entered, either signal raises KeyboardInterrupt, also where the process was started with SIGINT ignored."""
    with _handled_by(signal.default_int_handler):
        yield


@contextmanager
def exit_on_signal(prog: str, *, last: bool) -> Iterator[None]:
    """While entered, either signal ends the process, with a line and the exit code 130.

    Meant for the time of imports: they leave nothing to clean up, and half-imported packages fail in odd ways before
    an exception gets through. A signal that `signals_blocked` held back is delivered now.

    With `last`, what follows the block is the process's end, which takes moments and which no signal may break.
    """

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        with suppress(OSError):
            os.write(2, f"{prog}: {STOPPED}\n".encode())
        os._exit(EXIT_INTERRUPTED)

    with _handled_by(end, afterwards=signal.SIG_IGN if last else None):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        yield


@contextmanager
def signals_blocked() -> Iterator[None]:
    """While entered, signals stay pending, even across an exec."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def signals_ignored() -> Iterator[None]:
    """While entered, neither signal does anything: for moments when finishing is quicker than stopping."""
    with _handled_by(signal.SIG_IGN):
        yield


@contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], object] | signal.Handlers, *, afterwards: signal.Handlers | None = None
) -> Iterator[None]:
    """While entered, `handler` takes either signal; then the previous one, or `afterwards`."""
    previous = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before if afterwards is None else afterwards)
