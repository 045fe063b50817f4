"""A worker as its supervisor sees it: a process that can be asked, and whose log lines go into one log."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from latentserve_server.supervision.conversation import Questions
from latentserve_server.telemetry.log_writer import LogWriter

_MODULE = "latentserve_server.supervision.worker"
_READ_BYTES = 1 << 16


class WorkerProcess:
    """One process, from its start to its end."""

    def __init__(self, number: int, log: LogWriter) -> None:
        """Nothing is started yet; its lines will go to `log`."""
        self.number = number
        self._log = log
        self._questions = Questions(f"worker {number}")
        self._process: asyncio.subprocess.Process | None = None
        self._end: asyncio.Task[int] | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the process, which waits to be asked.

        It is a program of its own, for a fork would not have the threads of gRPC, and a group of its own, so that a
        terminal's Ctrl-C reaches the supervisor alone.

        Raises:
            OSError: there can be no further process.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", _MODULE, str(self.number), str(theirs.fileno())),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    process_group=0,
                )
            self._end = asyncio.get_running_loop().create_task(self._follow())
            await self._questions.open(ours)
        except BaseException:
            ours.close()  # at which the process ends
            raise

    async def ask(self, question: str, subject: Any = None) -> Any:
        """The answer to a question.

        Raises:
            WorkerGone: it has ended. LatentServeError: that with which it refused.
        """
        return await self._questions.ask(question, subject)

    def tell(self, question: str) -> None:
        """Ask, and wait for no answer."""
        self._questions.tell(question)

    async def ended(self) -> int:
        """How it ended, once it has and its last lines were read: its exit status, or minus the number of a signal."""
        assert self._end is not None
        return await asyncio.shield(self._end)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _follow(self) -> int:
        """Pass its lines on, whole ones together, so that those of several workers do not mix."""
        assert self._process is not None
        assert self._process.stderr is not None
        begun = b""
        while read := await self._process.stderr.read(_READ_BYTES):
            lines, end, begun = (begun + read).rpartition(b"\n")
            if end:
                self._log.put_lines(lines + end)
        if begun:
            self._log.put_lines(begun + b"\n")
        return await self._process.wait()


def ending(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"with exit status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"
