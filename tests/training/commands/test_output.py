"""How a command ends whose output nobody takes: a line at most, and an exit code that tells."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import pytest
from training.small_runs import arguments

from latentserve_training import commands

BIN = Path(sys.executable).parent
FULL = Path("/dev/full")  # every write to it ends as on a full disk
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {"OMP_NUM_THREADS": "1"}
UNREAD = (141, "")
COMMANDS = ["train", "evaluate", "export", "import"]


def run(command: Sequence[str], output: IO[str] | int) -> tuple[int, str]:
    """The exit code and standard error."""
    name, *argv = command
    done = subprocess.run([str(BIN / name), *argv], stdout=output, stderr=subprocess.PIPE, text=True, env=BUFFERED)
    return done.returncode, done.stderr


def run_unread(command: Sequence[str]) -> tuple[int, str]:
    """The same with a standard output that nobody reads any more."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        return run(command, theirs)
    finally:
        os.close(theirs)


def run_full(command: Sequence[str]) -> tuple[int, str]:
    """The same with a standard output that takes nothing."""
    with FULL.open("w") as full:
        return run(command, full)


def not_written(command: str) -> tuple[int, str]:
    return 1, f"{command}: error: standard output: No space left on device\n"


@pytest.mark.parametrize("command", [f"latentserve-{verb}" for verb in COMMANDS])
def test_a_version_that_cannot_be_told(command: str) -> None:
    assert run_unread([command, "--version"]) == UNREAD
    assert run_full([command, "--version"]) == not_written(command)


def test_help_that_cannot_be_told() -> None:
    assert run_unread(["latentserve-import", "--help"]) == UNREAD
    assert run_full(["latentserve-train", "--untuned", "--help"]) == not_written("latentserve-train")


def test_a_run_that_cannot_be_told_of_can_be_continued(tmp_path: Path) -> None:
    command = ["latentserve-train", *arguments("mlp_vae", tmp_path / "run", "--untuned")]
    assert run_unread(command) == UNREAD
    assert run_full(command) == not_written("latentserve-train")
    assert commands.train(arguments("mlp_vae", tmp_path / "run")) == 0


def test_an_export_that_cannot_be_told_of_is_whole(trained: Callable[[str], Path], tmp_path: Path) -> None:
    command = ["latentserve-export", str(trained("mlp_vae")), "--repository", str(tmp_path)]
    assert run_unread(command) == UNREAD
    assert [path.name for path in (tmp_path / "mlp_vae").iterdir()] == ["1"]
    assert (tmp_path / "mlp_vae" / "1" / "manifest.json").is_file()


def test_an_error_that_cannot_be_told_has_its_exit_code(tmp_path: Path) -> None:
    argv = [str(BIN / "latentserve-export"), str(tmp_path), "--repository", str(tmp_path)]
    with FULL.open("w") as full:
        assert subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=full, env=BUFFERED).returncode == 1
