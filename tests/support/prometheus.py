"""A real Prometheus, and promtool: from PATH, or what `make .venv/prometheus/installed` unpacked."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from server_process import BACKSTOP_SECONDS

_UNPACKED = Path(__file__).parents[2] / ".venv" / "prometheus" / "usr" / "bin"
_POLL_SECONDS = 0.1
"""Between two questions. Prometheus tells nothing by itself."""


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where there is none."""
    found = shutil.which(name) or shutil.which(name, path=str(_UNPACKED))
    if found is None:
        pytest.skip(f"there is no {name} on PATH, nor did `make .venv/prometheus/installed` find one")
    return found


def promtool(*arguments: str, stdin: str = "") -> str:
    """What promtool prints, which is to find nothing wrong."""
    command = [program("promtool"), *arguments]
    run = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=BACKSTOP_SECONDS)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


class Prometheus:
    """A running Prometheus."""

    def __init__(self, address: str) -> None:
        self.url = f"http://{address}"

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of a reply of its HTTP API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=BACKSTOP_SECONDS) as reply:  # noqa: S310
            return json.load(reply)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The labels and the value of each series that an expression has now."""
        return list(self.ask("query", query=expression)["result"])

    async def until(self, expression: str, holds: Callable[[list[dict[str, Any]]], object] = bool) -> Any:
        """What the expression has as soon as that is as it should be; by default, as soon as it has anything."""
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(BACKSTOP_SECONDS):
                while not holds(found := await asyncio.to_thread(self.query, expression)):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{expression} stayed {found}") from None
        return found


@asynccontextmanager
async def prometheus(folder: Path, target: str, rules: Path) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes the target, as the job "latentserve", and evaluates the rules every second."""
    seconds = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    job = {"job_name": "latentserve", "static_configs": [{"targets": [target]}]}
    config = folder / "prometheus.yml"  # of which JSON is a part
    config.write_text(json.dumps({"global": seconds, "rule_files": [str(rules)], "scrape_configs": [job]}))
    flags = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", "--web.listen-address=127.0.0.1:0"]
    flags.append("--enable-feature=exemplar-storage")
    process = await asyncio.create_subprocess_exec(program("prometheus"), *flags, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    reading: asyncio.Future[bytes] | None = None
    try:
        address, lines = "", list[str]()
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while "is ready to receive web requests" not in "".join(lines[-1:]):
                line = (await process.stderr.readline()).decode()
                assert line, "".join(lines)
                lines.append(line)
                if found := re.search(r'msg="Listening on" address=(\S+)', line):
                    address = found[1]
        reading = asyncio.ensure_future(process.stderr.read())
        yield Prometheus(address)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if reading is not None:
            await reading
