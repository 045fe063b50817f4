"""Runs that are interrupted or killed, and the comparison of two runs bit by bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training.interrupted_run import train_until

from latentserve_training import commands
from latentserve_training.errors import InterruptedRun
from latentserve_training.run.checkpoint import Checkpoint
from latentserve_training.run.folder import RunFolder

Capture = pytest.CaptureFixture[str]


def interrupt(argv: list[str], stop: int) -> None:
    """Run the command line's training and have it told to stop after `stop` steps."""
    with pytest.raises(InterruptedRun):
        train_until(argv, stop, lambda: signal.raise_signal(signal.SIGTERM))


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the last checkpoint: weights, averages, optimizer moments and random state."""
    return flat(Checkpoint.load(RunFolder(run).last))


def flat(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {name: value}
    items: Any = ()
    if isinstance(value, Checkpoint):
        items = ((key, getattr(value, key)) for key in ("model", "average", "optimizers", "rng"))
    elif isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return {key: leaf for part, child in items for key, leaf in flat(child, f"{name}.{part}").items()}


def assert_same(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 10
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def kill(argv: list[str], step: int) -> None:
    """Run the command line's training in a process that SIGKILL ends after `step` steps."""
    script = Path(__file__).with_name("killed_run.py")
    process = subprocess.run(
        [sys.executable, str(script), str(step), *argv], capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()


def refused(capsys: Capture, argv: list[str]) -> str:
    assert commands.train(argv) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line
