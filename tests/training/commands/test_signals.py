"""Signals that come where nothing is worth saving: exit code 130, one line, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

BIN = Path(sys.executable).parent
SIGNALS = [signal.SIGINT, signal.SIGTERM]
ARGUMENTS = {
    "latentserve-train": ["--output", "run"],
    "latentserve-evaluate": ["run"],
    "latentserve-export": ["run", "--repository", "models"],
    "latentserve-import": ["model.yaml", "--repository", "models", "--name", "model"],
}


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


def wait_for(ending: str, stream: IO[str] | None) -> None:
    """Read up to the first line that ends so, and no further."""
    assert stream is not None
    for line in stream:
        if line.endswith(ending):
            return


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
@pytest.mark.parametrize("command", ARGUMENTS)
def test_a_command_stops_while_it_is_still_being_loaded(tmp_path: Path, command: str, number: signal.Signals) -> None:
    """Loading torch and onnx takes seconds, once options are read; the command is told to stop when the first begins.

    What is interrupted then may end in an error of its own, as NumPy's half-loaded modules do.
    """
    (tmp_path / "torch.py").write_text(
        "open('loading', 'w').close()\ntry:\n    while True: pass\nexcept BaseException: raise RecursionError\n"
    )
    (tmp_path / "onnx.py").write_text("import torch\n")
    (tmp_path / "model.yaml").write_text("{kind: gan, latent_dim: 3, decoder: {file: g.onnx}}")
    process = begin(command, *ARGUMENTS[command], cwd=tmp_path, PYTHONPATH=str(tmp_path))
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


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_has_hardly_begun_stops_in_a_line(number: signal.Signals) -> None:
    argv = [sys.executable, "-X", "importtime", str(BIN / "latentserve-train")]
    with subprocess.Popen(argv, text=True, stderr=subprocess.PIPE) as process:
        wait_for(" latentserve_training.command_line.output\n", process.stderr)
        code, errors = stop(process, number)
    told = "".join(line for line in errors.splitlines(keepends=True) if not line.startswith("import time:"))
    assert (code, told) == stopped("latentserve-train")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_kept_for_the_program_that_the_process_becomes(number: signal.Signals) -> None:
    second = (
        "from latentserve_training.interruption import exit_on_signal\n"
        "print('started', flush=True)\n"
        "with exit_on_signal('command', last=True): print('not reached', flush=True)\n"
    )
    first = (
        "import os, signal, sys\n"
        "from latentserve_training.interruption import signals_blocked\n"
        "with signals_blocked():\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        f"    os.execv(sys.executable, [sys.executable, '-c', {second!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", first], text=True, capture_output=True)
    assert (done.returncode, done.stderr) == stopped("command")
    assert done.stdout == "started\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_process_ends_changes_nothing(number: signal.Signals) -> None:
    """What a library does at the interpreter's end is played by a read."""
    script = (
        "import atexit, sys\n"
        "from latentserve_training import commands\n"
        "atexit.register(lambda: (print('ending', flush=True), sys.stdin.read()))\n"
        "sys.argv = ['latentserve-train', '--version']\n"
        "sys.exit(commands.train())\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], text=True, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        wait_for("ending\n", process.stdout)
        assert stop(process, number) == (0, "")
