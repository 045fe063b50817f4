"""Training in float16, here on CPUs: losses are scaled, steps whose gradients overflow are skipped, and it learns."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training.resumed_runs import assert_same, interrupt, kill, refused
from training.small_runs import arguments
from training.two_processes import command, train_on_two

from latentserve_training import commands
from latentserve_training.data import load
from latentserve_training.run.accelerator import make_accelerator
from latentserve_training.run.checkpoint import Checkpoint
from latentserve_training.run.config import parse_command_line
from latentserve_training.run.estimate import estimate
from latentserve_training.run.folder import RunFolder
from latentserve_training.run.loss_scale import LossScale
from latentserve_training.run.train import start
from training import overflow_on_one_rank

Capture = pytest.CaptureFixture[str]
HALF = ("--trainer.precision", "float16")


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line)["train"] for line in RunFolder(run).metrics.read_text().splitlines()]


def trained_in(precision: str, family: str, run: Path, *more: str) -> list[dict[str, Any]]:
    """What a run on batches of 64 records of its training."""
    small = ("--trainer.batch_size", "64", "--trainer.precision", precision)
    assert commands.train(arguments(family, run, *small, *more)) == 0
    return records(run)


FAST = ("--model.learning_rate", "1e-3")
R1 = ("--model.discriminator_norm", "none", "--model.game.r1", "10", "--model.game.r1_every", "4")


@pytest.mark.parametrize(
    ("family", "more", "names", "tolerance"),
    [
        ("conv_vae", (), {"negative_elbo_nats"}, 0.08),  # a few steps behind, which it skipped at first
        ("mlp_gan", FAST, {"discriminator_loss_nats"}, 0.01),
        ("cgan", (*FAST, *R1), {"r1_penalty", "discriminator_gradient_norm"}, 0.1),
        ("wgan_gp", FAST, {"discriminator_gradient_norm"}, 0.1),
    ],
)
def test_it_learns_what_float32_does(
    tmp_path: Path, family: str, more: tuple[str, ...], names: set[str], tolerance: float
) -> None:
    runs = [trained_in(precision, family, tmp_path / precision, *more) for precision in ("float32", "float16")]
    for name in names:
        exact, half = ([epoch[name] for epoch in run] for run in runs)
        assert half == pytest.approx(exact, rel=tolerance), name
        assert abs(half[-1] / half[0] - 1) > 1.5 * tolerance, f"{name} does not move, and shows nothing"


@pytest.mark.parametrize(("family", "phases"), [("conv_vae", {"elbo"}), ("wgan_gp", {"discriminator", "generator"})])
def test_a_step_whose_gradient_overflows_is_skipped_and_counted(
    tmp_path: Path, capsys: Capture, family: str, phases: set[str]
) -> None:
    """At the first scale, 65536, the gradient of nats summed over pixels overflows, and so does that of a penalty."""
    assert commands.train(arguments(family, tmp_path / "run", *HALF)) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "cpu in float16" in said.out
    epochs = records(tmp_path / "run")
    skipped = {name: sum(epoch[f"{name}_skipped_steps"] for epoch in epochs) for name in phases}
    assert sum(skipped.values()) > 0
    assert all(math.isfinite(value) for epoch in epochs for value in epoch.values())
    kept = Checkpoint.load(RunFolder(tmp_path / "run").last)
    assert kept.progress.step == 15
    for (name, scale), optimizer in zip(kept.scales.items(), kept.optimizers, strict=True):
        assert scale["factor"] == 2 ** (16 - skipped[name])
        taken = {int(entry["step"]) for entry in optimizer["state"].values()}
        assert taken == {(5 if name == "generator" else 15) - skipped[name]}


def test_no_other_precision_speaks_of_skipped_steps(trained: Any) -> None:
    assert not [name for epoch in records(trained("conv_vae")) for name in epoch if "skipped" in name]


@pytest.mark.parametrize(
    ("family", "end", "step"), [("conv_vae", interrupt, 3), ("conv_vae", kill, 8), ("wgan_gp", interrupt, 1)]
)
def test_stopped_or_killed_and_continued_it_ends_in_the_same_bits(
    tmp_path: Path, family: str, end: Callable[[list[str], int], None], step: int
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert commands.train(arguments(family, straight, *HALF)) == 0
    end(arguments(family, stopped, *HALF), step)
    assert commands.train(arguments(family, stopped, *HALF)) == 0
    assert_same(straight, stopped)
    assert records(straight) == records(stopped)
    scales = [Checkpoint.load(RunFolder(run).last).scales for run in (straight, stopped)]
    assert scales[0] == scales[1]


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, capsys: Capture) -> None:
    line = refused(capsys, arguments("mlp_gan", tmp_path / "run", *HALF, "--model.learning_rate", "1e30"))
    assert re.search(r"diverged in epoch 1, after step 0: the generator's generator_loss_nats is (nan|inf);", line)
    assert line.endswith("try a smaller model.learning_rate or another trainer.precision\n")


def test_a_gradient_that_overflows_at_any_scale_ends_the_run(tmp_path: Path, capsys: Capture) -> None:
    """A million nats to one: 16 halvings of the scale do not bring it into float16. float32 takes it as it is."""
    heavy = ("--model.objective.beta", "1e6", "--trainer.epochs", "4")
    line = refused(capsys, arguments("mlp_vae", tmp_path / "half", *HALF, *heavy))
    assert re.search(r"diverged in epoch 4, after step 16: the elbo's gradient is (nan|inf);", line)
    assert [epoch["elbo_skipped_steps"] for epoch in records(tmp_path / "half")] == [5, 5, 5]
    assert commands.train(arguments("mlp_vae", tmp_path / "exact", *heavy)) == 0


def test_another_precision_is_another_run(tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    assert commands.train(arguments("mlp_vae", run, *HALF, "--trainer.epochs", "1")) == 0
    assert "trainer.precision: float16 -> float32" in refused(capsys, arguments("mlp_vae", run))


def test_what_a_run_costs_is_found_from_steps_that_are_taken(tmp_path: Path) -> None:
    """More are skipped at first than a dry run times; a skipped one allocates no moments."""
    config = parse_command_line(
        arguments("mlp_vae", tmp_path / "run", *HALF, "--model.objective.beta", "1e5"), "train", ""
    ).config
    trainer = start(config, load(config.data), make_accelerator("cpu", "float16", 1))
    found = estimate(trainer)
    assert trainer.progress.skipped["elbo"] > 13
    assert found.bytes_["optimizers"] >= 2 * found.bytes_["weights"]


def test_an_overflow_in_one_process_skips_the_step_in_all(tmp_path: Path) -> None:
    script = overflow_on_one_rank.__file__
    done = command(sys.executable, script, str(tmp_path), *arguments("mlp_gan", tmp_path / "run", *HALF))
    assert done.returncode == 0, done.stderr
    calm, loud = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for left in (calm, loud):
        assert left["calm"] == {"discriminator": 0, "generator": 0}
        assert left["skipped"] == {"discriminator": 1, "generator": 0}
    assert calm["scales"] == loud["scales"]
    for name, weight in calm["after"].items():
        assert torch.equal(weight, loud["after"][name]), name
        assert torch.equal(weight, calm["before"][name]) == name.startswith("discriminator"), name


def test_two_processes_skip_and_lose_as_much_as_one(tmp_path: Path) -> None:
    assert commands.train(arguments("conv_vae", tmp_path / "one", *HALF)) == 0
    done = train_on_two(*arguments("conv_vae", tmp_path / "two", *HALF))
    assert done.returncode == 0, done.stderr
    assert "2 processes, each on cpu in float16" in done.stdout
    for one, two in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        assert two["elbo_skipped_steps"] == pytest.approx(one["elbo_skipped_steps"], abs=1)
        assert two["negative_elbo_nats"] == pytest.approx(one["negative_elbo_nats"], rel=0.02)


NORMS = st.one_of(st.floats(0, 1e30), st.just(math.inf), st.just(math.nan))


@given(norms=st.lists(NORMS, max_size=60))
def test_a_scale_is_never_below_1_and_skips_16_steps_in_a_row_at_most(norms: list[float]) -> None:
    scale, row = LossScale.first("float16"), 0
    for norm in norms:
        before = scale.factor
        skipped = scale.overflows(norm)
        assert scale.factor == (before / 2 if skipped else before)
        assert not (skipped and math.isfinite(norm))
        row = row + 1 if skipped else 0
        assert row <= 16
        assert scale.factor >= 1
        if not (skipped or math.isfinite(norm)):
            assert before == 1
    assert not any(LossScale.first("bfloat16").overflows(norm) for norm in norms)


def test_a_scale_grows_after_2000_steps_without_an_overflow() -> None:
    scale = LossScale.first("float16")
    assert scale.overflows(math.inf)
    factors = []
    for _ in range(2000):
        scale.overflows(1.0)
        factors.append(scale.factor)
    assert factors == [2.0**15] * 1999 + [2.0**16]
