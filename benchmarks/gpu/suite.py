"""The server's own tests on the device, within a time."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from latentserve_server.available_cpus import available_cpus

ROOT = Path(__file__).parents[2]
MOST_PROCESSES = 16
NEEDED = ("pytest", "pytest_asyncio", "hypothesis")
"""Without which no test of the server runs; those that need more are left out one by one."""
END_SECONDS = 10.0
"""For a process that is to stop, to say what it has."""
TOLD_CHARACTERS = 2000
"""What is kept, at most, of what a failed test says, from its end."""


@dataclass
class Findings:
    """What came out so far."""

    passed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """What they said, by their names."""
    skipped: Counter[str] = field(default_factory=Counter)
    """How many, by the reason."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Files that import a library which is not here, with its name."""

    def add(self, case: ElementTree.Element) -> None:
        """Add what pytest wrote of one test, or of a file that it could not collect."""
        name = "::".join(filter(None, (case.get("classname"), case.get("name"))))
        skip, error = case.find("skipped"), case.find("error")
        wrong = case.find("failure") if error is None else error
        if wrong is not None:
            text = wrong.text or wrong.get("message") or ""
            *_, last = text.splitlines() or [""]
            if wrong.get("message") == "collection failure" and "No module named" in last:
                self.left_out[name] = last.rpartition("No module named ")[2].strip("'")
            else:
                self.failed[name] = text[-TOLD_CHARACTERS:]
        elif skip is not None:
            self.skipped[skip.get("message", "")] += 1
        else:
            self.passed += 1


def run_suite(
    device: str, tests: Sequence[str], seconds: float, *, processes: int | None = None, xdist: bool | None = None
) -> dict[str, Any]:
    """How many passed or were skipped, and what failed: with xdist where there is, else in processes of their own.

    What was not reached in `seconds` is not counted, and `ended` says so.

    Raises:
        RuntimeError: this Python lacks what every test needs.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise RuntimeError(f"the server's tests need {', '.join(missing)}, which this Python does not have")
    processes = processes or min(MOST_PROCESSES, (3 * available_cpus() + 1) // 2)  # they wait for servers
    xdist = importlib.util.find_spec("xdist") is not None if xdist is None else xdist
    shares = [[*tests, f"--numprocesses={processes}", "--dist=loadfile"]] if xdist else file_shares(tests, processes)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs = [_Run(device, share, Path(folder, str(number))) for number, share in enumerate(shares)]
        try:
            ended = _wait(runs, began + seconds)
            for run in runs:
                run.interrupt()
            _wait(runs, time.monotonic() + END_SECONDS)
        finally:
            for run in runs:
                run.kill()
        found = Findings()
        for run in runs:
            for case in run.cases():
                found.add(case)
        return {
            "ended": ended,
            "seconds": time.monotonic() - began,
            "processes": processes,
            "exit_status": max(run.exit_status for run in runs),
            "last_line": max(runs, key=lambda run: run.exit_status).last_line(),
            "passed": found.passed,
            "failed": found.failed,
            "skipped": dict(found.skipped.most_common()),
            "left_out": found.left_out,
        }


def suite_problems(suite: dict[str, Any]) -> list[str]:
    """What is wrong with it, a line each."""
    problems = []
    if suite["failed"]:
        problems.append(f"the server's tests: {len(suite['failed'])} failed")
    if not suite["ended"]:
        problems.append(f"the server's tests: {suite['passed']} had passed when the time was over")
    elif suite["exit_status"] > (1 if suite["failed"] or suite["left_out"] else 0) or not suite["passed"]:
        problems.append(f"the server's tests: {suite['last_line']}")
    return problems


def file_shares(tests: Sequence[str], shares: int) -> list[list[str]]:
    """The files of tests in so many lists, large and small ones in each."""
    given = (sorted((ROOT / each).rglob("test_*.py")) or [ROOT / each] for each in tests)
    files = sorted(itertools.chain(*given), key=lambda path: path.stat().st_size, reverse=True)
    lists = [[str(path.relative_to(ROOT)) for path in files[first::shares]] for first in range(shares)]
    return [each for each in lists if each]


class _Run:
    """One process of pytest, with all that it starts."""

    def __init__(self, device: str, arguments: Sequence[str], folder: Path) -> None:
        folder.mkdir()
        self._report, self._log = folder / "junit.xml", folder / "log"
        command = [sys.executable, "-m", "pytest", *arguments, f"--device={device}", f"--junitxml={self._report}"]
        # The libraries are those of the machine: neither is one that is missing the end, nor one that warns a finding.
        command += ["--quiet", "--continue-on-collection-errors", "-W", "default"]
        with self._log.open("w") as sink:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def exit_status(self) -> int:
        """What it left with, once it has."""
        return abs(int(self._process.returncode))

    def wait(self, seconds: float) -> bool:
        """Whether it ends within so long."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, seconds))
        return self._process.returncode is not None

    def interrupt(self) -> None:
        """Have it report what it has, if it still runs, as from a keyboard."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End what is left of it and of all that it started, so that nothing runs beside what is measured next."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def cases(self) -> list[ElementTree.Element]:
        """The tests of its report, if it wrote one."""
        if not self._report.exists():
            return []
        return list(ElementTree.parse(self._report).getroot().iter("testcase"))  # noqa: S314

    def last_line(self) -> str:
        """The last of what it said; where it did not begin, why."""
        lines = self._log.read_text().strip().splitlines()
        refusals = [line for line in lines if line.startswith("ERROR: ")]
        return (refusals or lines or [""])[-1]


def _wait(runs: Sequence[_Run], until: float) -> bool:
    """Whether all ended by themselves before a time of the monotonic clock."""
    ended = [run.wait(until - time.monotonic()) for run in runs]
    return all(ended)
