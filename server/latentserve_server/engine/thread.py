"""The thread on which a model's graphs run, but for short runs on the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

from latentserve_server.blocking_calls import start_thread
from latentserve_server.engine.device import Account, DeviceQueue

P = ParamSpec("P")
T = TypeVar("T")


class EngineThread(Executor):
    """Runs what is submitted in order, each piece in a slot of its own."""

    def __init__(self, name: str, slots: DeviceQueue) -> None:
        """`slots` are those of the device that the thread's graphs run on."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._slots = slots
        self._account = Account()
        self._lock = threading.Lock()
        self._under_way = 0
        self.is_idle = not slots.is_bounded
        """Whether nothing that was submitted is under way, and the device has slots for all: then who submits may run
        something on its own thread."""

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `work` in a slot."""
        with self._lock:
            future = self._thread.submit(self._in_slot, lambda: work(*args, **kwargs))
            self._under_way += 1
            self.is_idle = False
        future.add_done_callback(self._ended)
        return future

    def submit_alone(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `work` without a slot: it takes slots itself where it needs the device.

        Raises:
            OSError: the thread cannot be started.
        """
        return start_thread(lambda: self._thread.submit(work, *args, **kwargs))

    def slot(self) -> AbstractContextManager[None]:
        """A slot, for work on this thread that was submitted without one."""
        return self._slots.slot(self._account)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and wait for what was submitted if `wait` says so."""
        self._thread.shutdown(wait, cancel_futures=cancel_futures)

    def _in_slot(self, work: Callable[[], T]) -> T:
        with self.slot():
            return work()

    def _ended(self, _: Future[Any]) -> None:
        with self._lock:
            self._under_way -= 1
            self.is_idle = not self._under_way and not self._slots.is_bounded
