"""The command `latentserve-server` in a process of its own, followed by its log lines."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tested_device import device

COMMAND = Path(sys.executable).parent / "latentserve-server"
BACKSTOP_SECONDS = 60.0
"""What a test waits at most for a log line or an exit; nothing waits this long unless it is broken."""


class ServerProcess:
    """A running `latentserve-server`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []
        """What it wrote to standard error so far, as far as it was read."""

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def log(self, beginning: str) -> dict[str, Any]:
        """The next log line whose message begins so."""
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while line := await self._read_line():
                if line.startswith("{") and (record := json.loads(line))["message"].startswith(beginning):
                    return dict(record)
        raise AssertionError(f"the server ended without saying {beginning!r}:\n" + "\n".join(self.lines))

    async def exit_status(self) -> int:
        """What the process leaves with, once it does; reads the rest of its lines."""
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while self._process.stderr is not None and await self._read_line():
                pass
            return await self._process.wait()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def complaints(self) -> list[str]:
        """The lines that are no log lines."""
        return [line for line in self.lines if not line.startswith("{")]

    async def _read_line(self) -> str:
        assert self._process.stderr is not None
        line = (await self._process.stderr.readline()).decode().rstrip("\n")
        if line:
            self.lines.append(line)
        return line


@asynccontextmanager
async def server_process(
    repository: Path | str,
    *flags: str,
    variables: Mapping[str, str] | None = None,
    stderr: int = asyncio.subprocess.PIPE,
    through: Sequence[str] = (),
    **options: Any,
) -> AsyncIterator[ServerProcess]:
    """The command over the repository, on free ports unless the flags say otherwise; killed if the block leaves it.

    `variables` are set in its environment. With a descriptor of the test's own for `stderr`, its lines are the test's.
    `through` is a program with its arguments, which becomes the command that follows them. `options` are those of
    `subprocess.Popen`.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LATENTSERVE_")}
    defaults = ("--listen=127.0.0.1:0", "--metrics-listen=off", f"--device={device()}", "--cpu-threads=1")
    process = await asyncio.create_subprocess_exec(
        *through,
        COMMAND,
        f"--repository={repository}",
        *defaults,
        *flags,
        stderr=stderr,
        env=environment | dict(variables or {}),
        **options,
    )
    try:
        yield ServerProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()  # wait() would never return where more has been written than was read
