"""What the supervisor asks of a worker, and what that answers: lines of JSON over a socket pair."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any, TypeAlias

from latentserve_server import errors
from latentserve_server.errors import LatentServeError, WorkerGone

_logger = logging.getLogger(__name__)

_MAX_LINE_BYTES = 1 << 30
"""asyncio wants a bound. Both sides are this package, and the longest lines are metrics."""

Answer: TypeAlias = Callable[[Any], Awaitable[Any]]
"""Answers a question about a subject; both are what JSON can say."""


class Questions:
    """The supervisor's side."""

    def __init__(self, name: str) -> None:
        """`name` is the worker's, in messages."""
        self._name = name
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self, connection: socket.socket) -> None:
        """Ask over this connection, until the other side closes it."""
        reader, self._writer = await asyncio.open_connection(sock=connection, limit=_MAX_LINE_BYTES)
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    async def ask(self, question: str, subject: Any = None) -> Any:
        """The answer to a question.

        Raises:
            WorkerGone: the other side has closed the connection. LatentServeError: that with which it refused.
        """
        if self._writer is None or self._reading is None or self._reading.done():
            raise WorkerGone(f"{self._name} has ended")
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(_line([number, question, subject]))
            return await future
        finally:
            self._waiting.pop(number, None)

    def tell(self, question: str) -> None:
        """Ask something and wait for no answer; where the other side has gone, nothing happens."""
        if self._writer is not None and self._reading is not None and not self._reading.done():
            self._writer.write(_line([next(self._numbers), question, None]))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await _next_line(reader):
                number, kind, said = json.loads(line)
                future = self._waiting.get(number)
                if future is None or future.done():
                    continue
                if kind:
                    future.set_exception(_error(kind, said))
                else:
                    future.set_result(said)
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(WorkerGone(f"{self._name} has ended"))
            if self._writer is not None:
                self._writer.close()


async def answer(connection: socket.socket, answers: Mapping[str, Answer]) -> None:
    """Answer what is asked, each question in a task; returns when the other side has closed the connection."""
    reader, writer = await asyncio.open_connection(sock=connection, limit=_MAX_LINE_BYTES)
    tasks = set[asyncio.Task[None]]()
    try:
        while line := await _next_line(reader):
            number, question, subject = json.loads(line)
            task = asyncio.get_running_loop().create_task(_answer(writer, number, answers[question], subject))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()
        writer.close()


async def _answer(writer: asyncio.StreamWriter, number: int, answer: Answer, subject: Any) -> None:
    try:
        line = _line([number, "", await answer(subject)])
    except LatentServeError as error:
        line = _line([number, type(error).__name__, str(error)])
    except Exception as error:
        _logger.exception("a question of the supervisor was not answered")
        line = _line([number, type(error).__name__, str(error)])
    writer.write(line)


def _line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


async def _next_line(reader: asyncio.StreamReader) -> bytes:
    """The next whole line; empty where there is none any more."""
    try:
        return await reader.readuntil(b"\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _error(kind: str, message: str) -> Exception:
    """The error of this name. Its message is whole, so it is not made by its class, which would compose one."""
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, LatentServeError):
        return known.__new__(known, message)
    return RuntimeError(f"{kind}: {message}")
