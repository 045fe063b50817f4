"""A queue of commands that one task runs, one after another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from latentserve_server.errors import LatentServeError, ShuttingDown

_logger = logging.getLogger(__name__)

T = TypeVar("T")
Command = Callable[[], Awaitable[Any]]


class CommandQueue:
    """Commands wait from the beginning and run, in order, once the queue was started."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[Command, asyncio.Future[Any]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to run commands."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def put(self, command: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Let the command run when its turn comes, whether or not anyone awaits the result.

        Raises:
            ShuttingDown: the queue was closed; also for commands that still wait then.
        """
        if self._closed:
            raise ShuttingDown("the server is stopping")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_note_failure)
        self._waiting.put_nowait((command, future))
        return future

    async def close(self) -> None:
        """Cancel the running command and refuse those that wait."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while not self._waiting.empty():
            _, future = self._waiting.get_nowait()
            _settle(future, ShuttingDown("the server is stopping"))

    async def _run(self) -> None:
        while True:
            command, future = await self._waiting.get()
            try:
                result = await command()
            except asyncio.CancelledError:
                _settle(future, ShuttingDown("the server is stopping"))
                raise
            except Exception as error:
                _settle(future, error)
            else:
                if not future.done():
                    future.set_result(result)


def _settle(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _note_failure(future: asyncio.Future[Any]) -> None:
    """Log an error that is a mistake of ours: whoever put the command may be gone."""
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, LatentServeError):
        _logger.error("a command failed", exc_info=error)
