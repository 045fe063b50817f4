"""A run that is stopped and continued is the run that was never stopped, to the bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training.resumed_runs import assert_same, interrupt, kill, refused
from training.small_runs import arguments

from latentserve_training import commands
from latentserve_training.interruption import Interruption
from latentserve_training.run.checkpoint import Checkpoint
from latentserve_training.run.folder import RunFolder

STEPS = 15  # three epochs of five steps
Capture = pytest.CaptureFixture[str]


def training_losses(run: Path) -> list[dict[str, float]]:
    """The mean losses of every epoch."""
    return [json.loads(line)["train"] for line in RunFolder(run).metrics.read_text().splitlines()]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    family=st.sampled_from(["conv_vae", "mlp_gan", "wgan_gp", "cgan"]),
    stops=st.sets(st.integers(1, STEPS - 1), min_size=1, max_size=2),
)
def test_stopped_at_any_steps_and_continued_it_ends_in_the_same_bits(
    trained: Any, tmp_path_factory: pytest.TempPathFactory, family: str, stops: set[int]
) -> None:
    run = tmp_path_factory.mktemp("stopped") / family
    for stop in sorted(stops):
        interrupt(arguments(family, run), stop)
        assert Checkpoint.load(RunFolder(run).last).progress.step == stop
    assert commands.train(arguments(family, run)) == 0
    assert_same(run, trained(family))
    records = [json.loads(line) for line in RunFolder(run).metrics.read_text().splitlines()]
    expected = [json.loads(line) for line in RunFolder(trained(family)).metrics.read_text().splitlines()]
    assert [(record["epoch"], record["train"], record["validation"]) for record in records] == [
        (record["epoch"], record["train"], record["validation"]) for record in expected
    ]


def test_more_epochs_continue_a_finished_run(trained: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert commands.train(arguments("mlp_vae", run, "--trainer.epochs", "1")) == 0
    assert commands.train(arguments("mlp_vae", run, "--trainer.epochs", "3")) == 0
    assert_same(run, trained("mlp_vae"))


def test_a_loss_is_averaged_over_the_steps_it_was_part_of(trained: Any) -> None:
    """Five steps an epoch and three of the critic to one of the generator, whose turns are steps 3, 6, 9, 12 and 15."""
    kept = Checkpoint.load(RunFolder(trained("wgan_gp")).last)
    steps = [max(float(entry["step"]) for entry in state["state"].values()) for state in kept.optimizers]
    assert steps == [15.0, 5.0]
    losses = training_losses(trained("wgan_gp"))
    assert len(losses) == 3
    assert all({"generator_loss", "discriminator_loss", "slope_penalty"} <= epoch.keys() for epoch in losses)
    assert kept.progress.counts == {}


@pytest.mark.parametrize(("family", "steps"), [("mlp_gan", (3, 10)), ("conv_vae", (9,))])
def test_killed_at_any_steps_and_continued_it_ends_in_the_same_bits(
    trained: Any, tmp_path: Path, family: str, steps: tuple[int, ...]
) -> None:
    run = tmp_path / "run"
    for step in steps:
        kill(arguments(family, run), step)
        assert Checkpoint.load(RunFolder(run).last).progress.step == (step - 1) // 5 * 5
    assert commands.train(arguments(family, run)) == 0
    assert_same(run, trained(family))


def test_a_line_of_metrics_that_a_crash_cut_short_is_written_again(trained: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert commands.train(arguments("mlp_vae", run, "--trainer.epochs", "2")) == 0
    metrics = RunFolder(run).metrics
    metrics.write_text(metrics.read_text() + '{"epoch": 3, "st')
    assert commands.train(arguments("mlp_vae", run)) == 0
    assert [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()] == [1, 2, 3]
    assert_same(run, trained("mlp_vae"))


def test_a_signal_ends_the_command_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    endless = arguments("mlp_vae", tmp_path / "run", "--trainer.epochs", "1000000")
    command = [str(Path(sys.executable).parent / "latentserve-train"), *endless]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.count("\n") == 1
    assert "run the same command again to continue" in errors


def test_only_the_first_signal_is_a_question() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_changed_configuration_is_refused_field_by_field(trained: Any, capsys: Capture) -> None:
    line = refused(capsys, arguments("mlp_vae", trained("mlp_vae"), "--model.wide", "64", "--seed", "2"))
    assert "model.wide: 32 -> 64; seed: 1 -> 2" in line
    assert "narrow" not in line


def test_another_family_in_the_same_folder_is_refused(trained: Any, capsys: Capture) -> None:
    assert "model.family: mlp_vae -> conv_vae" in refused(capsys, arguments("conv_vae", trained("mlp_vae")))


def test_fewer_epochs_than_planned_end_a_run_that_has_done_them(trained: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    interrupt(arguments("mlp_vae", run, "--trainer.epochs", "9"), 12)
    assert commands.train(arguments("mlp_vae", run, "--trainer.epochs", "3")) == 0
    assert_same(run, trained("mlp_vae"))


def test_fewer_epochs_than_done_are_refused(trained: Any, capsys: Capture) -> None:
    line = refused(capsys, arguments("mlp_vae", trained("mlp_vae"), "--trainer.epochs", "2"))
    assert "trainer.epochs is 2" in line


def test_an_epoch_that_was_begun_is_not_cut_off(tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    interrupt(arguments("mlp_gan", run), 13)
    capsys.readouterr()
    line = refused(capsys, arguments("mlp_gan", run, "--trainer.epochs", "2"))
    assert f"trainer.epochs is 2, but {run} has begun epoch 3 already" in line


def test_weights_from_the_middle_of_an_epoch_go_without_the_results_of_the_epoch_before(tmp_path: Path) -> None:
    run = tmp_path / "run"
    interrupt(arguments("mlp_gan", run), 13)
    assert commands.export([str(run), "--repository", str(tmp_path)]) == 0
    manifest = json.loads((tmp_path / "mlp_gan" / "1" / "manifest.json").read_text())
    assert "metrics" not in manifest
    assert int(manifest["provenance"]["training_steps"]) == 13


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "holds no checkpoint" in refused(capsys, arguments("mlp_vae", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
