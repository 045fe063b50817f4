"""The server's own tests on the device, within a time."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from latentserve_server.available_cpus import available_cpus

ROOT = Path(__file__).parents[2]
MOST_PROCESSES = 8


def run_suite(device: str, tests: Sequence[str], seconds: float) -> dict[str, Any]:
    """How many passed, and the names of those that did not; with xdist where it is installed.

    What was not reached in `seconds` is not counted, and `ended` says so.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "junit.xml")
        log = Path(folder, "log")
        command = [sys.executable, "-m", "pytest", *tests, f"--device={device}", "-q", f"--junitxml={report}"]
        if importlib.util.find_spec("xdist"):
            command += [f"--numprocesses={min(MOST_PROCESSES, available_cpus())}", "--dist=loadfile"]
        with log.open("w") as sink:
            process = subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT)
            ended = _wait(process, seconds)
        counts = _counts(report) if report.exists() else {}
        lines = log.read_text().strip().splitlines()
    return {"ended": ended, "exit_status": process.returncode, "last_line": lines[-1] if lines else "", **counts}


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ended by itself; else it is interrupted, as from a keyboard, so that it reports what it has."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return False
    return True


def _counts(report: Path) -> dict[str, Any]:
    """Of a file that pytest has just written."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))  # noqa: S314
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {
        "passed": len(cases) - len(failed) - skipped,
        "skipped": skipped,
        "failed": [f"{case.get('classname')}::{case.get('name')}" for case in failed],
    }
