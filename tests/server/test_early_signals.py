"""Signals that come before the server's event loop answers them: one line, and 128 and the signal's number."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from server_process import ServerProcess, server_process

pytestmark = pytest.mark.slow

HELD = """
import os, signal
os.write(2, {line!r})
try:
    while True:
        signal.pause()
except BaseException:
    raise RecursionError
"""
"""A library that never finishes loading, and turns what interrupts it into an error of its own."""

LOGGED = "onnxruntime"
LIBRARIES = pytest.mark.parametrize("library", ["pythonjsonlogger", LOGGED])
"""One that loads before the log stands, and one that loads after, whose lines are the log's."""


def hold(library: str, folder: Path) -> dict[str, str]:
    """The variables with which the server never finishes loading the library."""
    line = b"held\n" if library == LOGGED else b'{"message": "held"}\n'
    (folder / f"{library}.py").write_text(HELD.format(line=line))
    return {"PYTHONPATH": str(folder)}


async def ending(process: ServerProcess) -> tuple[int, list[str]]:
    """How the process ends, and what it says beside its log."""
    status = await process.exit_status()
    return status, process.complaints()


@LIBRARIES
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_a_server_that_is_still_loading_ends_with_one_line(
    repository: Path, tmp_path: Path, library: str, number: signal.Signals
) -> None:
    async with server_process(repository, variables=hold(library, tmp_path)) as process:
        await process.log("held")
        process.signal(number)
        said = f"latentserve-server: stopped by {number.name} while it started"
        assert await ending(process) == (128 + number, [said])


async def test_a_supervisor_that_is_still_loading_ends_with_one_line(repository: Path, tmp_path: Path) -> None:
    flags = ("--workers=2", "--admin-listen=127.0.0.1:0")
    async with server_process(repository, *flags, variables=hold(LOGGED, tmp_path)) as process:
        await process.log("held")
        process.signal(signal.SIGTERM)
        said = "latentserve-server: stopped by SIGTERM while it started"
        assert await ending(process) == (128 + signal.SIGTERM, [said])


@LIBRARIES
async def test_a_hangup_while_the_server_loads_does_nothing(repository: Path, tmp_path: Path, library: str) -> None:
    async with server_process(repository, variables=hold(library, tmp_path)) as process:
        await process.log("held")
        process.signal(signal.SIGHUP)
        process.signal(signal.SIGTERM)
        assert (await ending(process))[0] == 128 + signal.SIGTERM
