"""Signals that come where nothing is worth saving: exit code 130, one line, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def begin(command: str, *argv: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(BIN / command), *argv], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def stop(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send the signal; returns the exit code and standard error."""
    process.send_signal(number)
    _, errors = process.communicate()
    return process.returncode, errors


def stopped(command: str) -> tuple[int, str]:
    """How the command is to end."""
    return 130, f"{command}: stopped by a signal before it was done; run the same command again\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_training_stops_before_its_first_step(tmp_path: Path, number: signal.Signals) -> None:
    """The configuration comes through a pipe, on which the command waits."""
    pipe = tmp_path / "run.yaml"
    os.mkfifo(pipe)
    process = begin("latentserve-train", "--config", str(pipe), "--output", str(tmp_path / "run"))
    with pipe.open("w"):  # which waits until the command reads
        assert stop(process, number) == stopped("latentserve-train")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", [f"latentserve-{verb}" for verb in ("train", "evaluate", "export", "import")])
def test_a_command_stops_while_it_is_still_being_loaded(tmp_path: Path, command: str, number: signal.Signals) -> None:
    """Loading torch and onnx takes seconds; the command is told to stop when the first of them begins.

    What is interrupted then may end in an error of its own, as NumPy's half-loaded modules do.
    """
    (tmp_path / "torch.py").write_text(
        "open('loading', 'w').close()\ntry:\n    while True: pass\nexcept BaseException: raise RecursionError\n"
    )
    (tmp_path / "onnx.py").write_text("import torch\n")
    process = begin(command, "model", "--repository", "models", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    while process.poll() is None and not (tmp_path / "loading").exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
    assert stop(process, number) == stopped(command)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_export_that_is_stopped_leaves_nothing(
    trained: Callable[[str], Path], tmp_path: Path, number: signal.Signals
) -> None:
    process = begin("latentserve-export", str(trained("conv_vae")), "--repository", str(tmp_path / "models"))
    while process.poll() is None and not list(tmp_path.glob("models/conv_vae/.staging-*")):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
    assert stop(process, number) == stopped("latentserve-export")
    assert list(tmp_path.iterdir()) == []
