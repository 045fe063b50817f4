"""The early end of one run, asked for from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancellation:
    """Belongs to one run, so it is never too early for that run and never reaches another one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._actions: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Ask for the end. From any thread; harmless before the run, after it, and twice."""
        with self._lock:
            self._cancelled = True
            for action in self._actions:
                action()

    @contextmanager
    def calling(self, action: Callable[[], None]) -> Iterator[None]:
        """Call `action` when the end is asked for within the block; at once where it was before. It must not block."""
        with self._lock:
            self._actions.append(action)
            if self._cancelled:
                action()
        try:
            yield
        finally:
            with self._lock:
                self._actions.remove(action)
