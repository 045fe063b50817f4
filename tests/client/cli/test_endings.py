"""How the command ends when its reader, its disk or its user has had enough."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

COMMAND = Path(sys.executable).with_name("latentserve")
# Without a buffer argparse writes its help itself, and says nothing where that fails.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
OUTPUTS = [["models"], ["model", "linear"], ["--help"], ["--version"]]


def command(target: str, *words: object, **options: Any) -> subprocess.Popen[str]:
    argv = [COMMAND, "--server", target, *map(str, words)]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=BUFFERED, **options)


@pytest.mark.parametrize("words", OUTPUTS, ids=lambda words: words[0])
def test_a_reader_that_left_is_no_error_to_tell(target: str, words: list[str]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with command(target, *words, stdout=theirs) as process:
        os.close(theirs)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (141, "")


@pytest.mark.parametrize("words", OUTPUTS, ids=lambda words: words[0])
def test_output_that_cannot_be_written_is_told_in_a_line(target: str, words: list[str]) -> None:
    with Path("/dev/full").open("w") as full, command(target, *words, stdout=full) as process:
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "latentserve: standard output: No space left on device\n")


def test_an_error_that_cannot_be_told_has_its_exit_code(target: str) -> None:
    argv = [COMMAND, "--server", target, "model", "nobody"]
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(argv, stderr=full, stdout=subprocess.DEVNULL).returncode == 1


def test_sigterm_leaves_what_has_arrived(
    target: str, tmp_path: Path, faults: list[Any], stalled: queue.Queue[str]
) -> None:
    faults.extend([None, (2, "stall")])
    with command(target, "sample", "linear", "--seed", 7, "-o", tmp_path / "all.npy") as process:
        stalled.get(timeout=30)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert (err.startswith("latentserve: terminated"), err.count("\n")) == (True, 1)
    # The server is ahead of its reader, so that some of what it has sent may not have been read.
    for kept in tmp_path.iterdir():
        rows = len(np.load(kept))
        assert f"{rows} of 64 images are in {kept}; go on with model linear:2 and --seed 7" in err


def test_sigterm_ends_any_command(target: str, faults: list[Any], stalled: queue.Queue[str]) -> None:
    faults.append("stall")
    with command(target, "models") as process:
        stalled.get(timeout=30)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, "latentserve: terminated\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("module", ["numpy", "grpc", "latentserve_client.errors"])
def test_a_signal_before_the_command_is_there_ends_it_quietly(number: signal.Signals, module: str) -> None:
    argv = [sys.executable, "-X", "importtime", COMMAND, "models"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.endswith(f" {module}\n"):
                break
        process.send_signal(number)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == -number
    assert [line for line in rest.splitlines() if not line.startswith("import time:")] == []


def test_an_interrupt_ends_with_130(target: str, tmp_path: Path, faults: list[Any], stalled: queue.Queue[str]) -> None:
    faults.extend([None, "stall"])
    argv = [str(COMMAND), "--server", target, "sample", "linear", "-o", str(tmp_path / "grid.png")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        stalled.get(timeout=30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "latentserve: interrupted\n")
    assert list(tmp_path.iterdir()) == []
