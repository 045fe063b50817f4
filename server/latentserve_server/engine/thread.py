"""The thread on which a model's graphs run, but for short runs on the event loop, and the early end of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
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
        self._has_slots_for_all = not slots.is_bounded

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `work` in a slot."""
        with self._lock:
            future = self._thread.submit(self._in_slot, lambda: work(*args, **kwargs))
            self._under_way += 1
        future.add_done_callback(self._ended)
        return future

    @property
    def is_idle(self) -> bool:
        """Whether nothing that was submitted is under way, and the device has slots for all."""
        return self._has_slots_for_all and not self._under_way

    def run_here(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` on the caller's thread, while this one is idle; the same thread must submit to it."""
        assert self.is_idle
        return work(*args, **kwargs)

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
