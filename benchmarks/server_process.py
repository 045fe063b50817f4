"""A server for a benchmark: a process of its own on a free port, and what its log says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAIN = "from latentserve_server.cli import main; raise SystemExit(main())"
"""The command's own, found by the interpreter's path, so that nothing need be installed."""


@dataclass(frozen=True)
class ServerProcess:
    """A server that says SERVING."""

    process: subprocess.Popen[bytes]
    port: int
    admin_port: int
    """0 where the server has no admin listener."""
    log: Path

    def resident_mib(self) -> float:
        """Its resident memory, in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def records(self) -> list[dict[str, Any]]:
        """Its log so far, one record a line."""
        return _records(self.log)


@contextmanager
def serving(repository: Path, *options: str, port: int = 0) -> Iterator[ServerProcess]:
    """Start a server over the repository, on a free port unless one is given, and kill it at the end."""
    command = [sys.executable, "-c", _MAIN, "--repository", str(repository), *options]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with log.open("wb") as sink:
            process = subprocess.Popen([*command, f"--listen=127.0.0.1:{port}", "--metrics-listen=off"], stderr=sink)
        try:
            ports = _wait_for_ports(process, log)
            yield ServerProcess(process, ports["port"], ports["admin_port"], log)
        finally:
            process.kill()
            process.wait()


def _wait_for_ports(process: subprocess.Popen[bytes], log: Path) -> dict[str, int]:
    while process.poll() is None:
        for record in _records(log):
            if "admin_port" in record:
                return record
        time.sleep(0.05)
    raise SystemExit(log.read_text())


def _records(log: Path) -> list[dict[str, Any]]:
    """The whole lines that are records; what a server says as it gives up is none."""
    lines = log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
