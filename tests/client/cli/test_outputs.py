"""Pipes, terminals and disks behind the command line, and outputs that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
COMMAND = Path(sys.executable).with_name("latentserve")
SAMPLE = ("sample", "linear", "--count", "6", "--seed", "7")


@pytest.mark.parametrize("count", ["6", "20"])
@pytest.mark.parametrize("form", ["png", "npy"])
def test_a_pipe_that_nobody_reads(target: str, count: str, form: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    argv = [COMMAND, "--server", target, "sample", "linear", "--count", count, "--format", form, "-o", "-"]
    with subprocess.Popen(argv, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        assert process.communicate(timeout=30) == (None, b"")
    assert process.returncode == 141


def test_a_full_disk_behind_a_pipe(target: str) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run([COMMAND, "--server", target, *SAMPLE, "-o", "-"], stdout=full, stderr=subprocess.PIPE)
    assert (run.returncode, run.stderr) == (1, b"latentserve: standard output: No space left on device\n")


def test_a_terminal_gets_no_pictures(target: str) -> None:
    terminal, theirs = os.openpty()
    run = subprocess.run([COMMAND, "--server", target, *SAMPLE, "-o", "-"], stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    os.close(terminal)
    assert (run.returncode, b"-o - is for a file or a pipe" in run.stderr) == (2, True)


@pytest.mark.parametrize(("count", "seen"), [(20, [4, 8, 12, 16]), (8, [])])
def test_a_terminal_sees_the_progress_of_a_job_of_several_calls(
    target: str, tmp_path: Path, count: int, seen: list[int]
) -> None:
    terminal, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    argv = [COMMAND, "--server", target, "sample", "linear", "--count", str(count), "-o", tmp_path / "grid.png"]
    subprocess.run(argv, stderr=theirs, stdout=subprocess.DEVNULL, check=True)
    os.write(theirs, b"end")
    output = b""
    while not output.endswith(b"end"):
        output += os.read(terminal, 4000)
    os.close(theirs)
    os.close(terminal)
    *shown, end = output.decode().split("\r")
    bars = [line for line in shown if line.strip()]
    assert [f" {done}/{count} " in bar for done, bar in zip(seen, bars, strict=True)] == [True] * len(seen)
    assert (end, "".join(shown[len(bars) + 1 :]).strip()) == ("end", "")  # the line is free again
