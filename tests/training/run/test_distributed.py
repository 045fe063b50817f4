"""Several processes that train one model, here on CPUs: the same run as one process's, but for the noise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from training.resumed_runs import assert_same
from training.small_runs import arguments
from training.two_processes import ENVIRONMENT, SCRIPTS, TWO, command, train_on_two

from latentserve_training.run.checkpoint import Checkpoint
from latentserve_training.run.folder import RunFolder
from training import distributed_gradient


def losses(run: Path) -> list[float]:
    records = (json.loads(line) for line in RunFolder(run).metrics.read_text().splitlines())
    return [record["train"]["negative_elbo_nats"] for record in records]


def test_a_shared_gradient_is_the_whole_batch_s(tmp_path: Path) -> None:
    script = distributed_gradient.__file__
    gradients = {}
    for devices in ("1", "2"):
        done = command(sys.executable, script, devices, str(tmp_path / devices))
        assert done.returncode == 0, done.stderr
        gradients[devices] = torch.load(tmp_path / devices)
    assert len(gradients["1"]) > 8
    for alone, shared in zip(gradients["1"], gradients["2"], strict=True):
        torch.testing.assert_close(shared, alone, rtol=1e-5, atol=1e-6)


def test_two_processes_lose_as_much_as_one(trained: Callable[[str], Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train_on_two(*arguments("conv_vae", run))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained 3 epochs") == 1
    assert "2 processes, each on cpu" in done.stdout
    assert losses(run) == pytest.approx(losses(trained("conv_vae")), rel=0.01)
    assert [path.name for path in (run / "samples").iterdir()]


def test_stopped_and_continued_two_processes_end_in_the_same_bits_as_under_torchrun(tmp_path: Path) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    torchrun = (str(SCRIPTS / "torchrun"), "--standalone", "--nproc_per_node=2", str(SCRIPTS / "latentserve-train"))
    done = command(*torchrun, *arguments("mlp_gan", straight), *TWO)
    assert done.returncode == 0, done.stderr
    for epochs in ("1", "3"):
        done = train_on_two(*arguments("mlp_gan", stopped, "--trainer.epochs", epochs))
        assert done.returncode == 0, done.stderr
    assert_same(straight, stopped)
    assert {"cpu", "cpu.1"} == Checkpoint.load(RunFolder(straight).last).rng.keys()


def test_ctrl_c_stops_all_of_them_and_saves(tmp_path: Path) -> None:
    argv = (*arguments("mlp_vae", tmp_path / "run", "--trainer.epochs", "1000000"), *TWO)
    process = subprocess.Popen(
        [str(SCRIPTS / "latentserve-train"), *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.count("\n") == 1, errors
    assert Checkpoint.load(RunFolder(tmp_path / "run").last).progress.step > 0


def test_what_does_not_divide_or_fit_is_said_once(tmp_path: Path) -> None:
    done = train_on_two(*arguments("mlp_vae", tmp_path / "run", "--trainer.batch_size", "255"))
    assert done.returncode == 1
    assert done.stderr == ("latentserve-train: error: trainer.batch_size is 255; 2 devices need a multiple of 2\n")


def test_a_record_that_cannot_be_kept_is_said_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert train_on_two(*arguments("mlp_vae", folder.path, "--trainer.epochs", "1")).returncode == 0
    folder.metrics.write_text(folder.metrics.read_text() + "torn")
    folder.metrics.with_name(".metrics.jsonl.tmp").mkdir()
    done = train_on_two(*arguments("mlp_vae", folder.path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr


def test_another_number_of_devices_cannot_continue(trained: Callable[[str], Path]) -> None:
    done = train_on_two(*arguments("mlp_vae", trained("mlp_vae")))
    assert done.returncode == 1
    assert "trainer.devices: 1 -> 2" in done.stderr
    assert done.stderr.count("\n") == 1
