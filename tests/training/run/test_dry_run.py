"""`--dry_run` says what a run will cost and leaves nothing behind."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from training.small_runs import arguments

from latentserve_training import commands
from latentserve_training.data import load
from latentserve_training.models import Phase
from latentserve_training.run.accelerator import make_accelerator
from latentserve_training.run.config import parse_command_line
from latentserve_training.run.estimate import estimate, kinds_of_steps
from latentserve_training.run.train import start
from latentserve_training.run.trainer import Trainer

Capture = pytest.CaptureFixture[str]


def without_output(family: str, *more: str) -> list[str]:
    argv = arguments(family, Path("unused"), *more)
    place = argv.index("--output")
    return argv[:place] + argv[place + 2 :]


@pytest.mark.parametrize("family", ["conv_vae", "mlp_gan"])
def test_it_prints_configuration_size_memory_and_time(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert commands.train(without_output(family, "--dry_run")) == 0
    config, _, numbers = capsys.readouterr().out.partition("\n\n")
    assert yaml.safe_load(config)["model"]["family"] == family
    assert re.search(r"^parameters: [\d,]+ \(\w+ [\d,]+, \w+ [\d,]+\)$", numbers, re.MULTILINE)
    assert re.search(r"^memory of a step: [\d.]+ MiB \(weights .*, activations [\d.]+\)$", numbers, re.MULTILINE)
    assert re.search(r"^time: .* 5 steps and .* for 3 epochs", numbers, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_without_a_dry_run_the_output_is_asked_for(capsys: Capture) -> None:
    assert commands.train(without_output("mlp_vae")) == 2
    assert capsys.readouterr().err == "latentserve-train: error: --output is missing; it names the folder of the run\n"


def begin(family: str, *more: str) -> Trainer:
    config = parse_command_line(without_output(family, "--dry_run", *more), "train", "").config
    return start(config, load(config.data), make_accelerator("cpu", "float32", 1))


RARE = ("--model.game.r1", "0.5", "--model.game.r1_every", "16", "--model.game.discriminator_steps", "5")


def test_a_step_weighs_as_often_as_it_is_taken() -> None:
    """Of 80 steps 5 have the penalty (every 16th, from the first), 16 the generator's (every 5th), and 1 has both."""
    trainer = begin("cgan", "--model.discriminator_norm", "none", *RARE)
    shares = kinds_of_steps(trainer.phases, 800)
    assert {step: round(80 * share, 6) for step, share in shares.items()} == {0: 4, 1: 60, 4: 15, 64: 1}


@given(
    turns=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 8)), min_size=1, max_size=2), steps=st.integers(1, 2000)
)
def test_shares_add_up_and_their_steps_are_within_the_run(turns: list[tuple[int, int]], steps: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)])
    phases = [Phase("phase", optimizer, lambda batch: (batch.images, {}), *turn) for turn in turns]
    shares = kinds_of_steps(phases, steps)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(0 <= step < steps for step in shares)
    assert len(shares) <= 4 ** len(turns)


@pytest.mark.parametrize("every", ["16", "1000", "999983"])
def test_however_rare_a_penalty_is_a_few_steps_are_taken(every: str) -> None:
    trainer = begin("cgan", "--model.discriminator_norm", "none", *RARE, "--model.game.r1_every", every)
    drawn = Counter[str]()
    trainer.model.get_submodule("discriminator").register_forward_hook(lambda *_: drawn.update(["scored"]))
    found = estimate(trainer)
    assert 0 < found.step_seconds < 10
    assert drawn["scored"] <= 4 * 14 * 4  # four kinds, fourteen times, of at most four looks at images


def test_the_parts_are_what_the_model_has() -> None:
    trainer = begin("conv_vae")
    found = estimate(trainer)
    weights = sum(parameter.numel() for parameter in trainer.model.parameters())
    assert sum(found.parameters.values()) == weights
    assert found.bytes_["weights"] == 4 * weights
    assert 8 * weights <= found.bytes_["optimizers"] <= 8 * weights + 1024  # Adam's two moments, and step counters
    assert found.seconds >= 15 * found.step_seconds


def test_activations_grow_with_the_batch() -> None:
    sizes = []
    for batch in ("64", "128"):
        sizes.append(estimate(begin("conv_vae", "--trainer.batch_size", batch)).bytes_["activations"])
    assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.1)
    assert sizes[0] >= 64 * 8 * 8 * 8 * torch.float32.itemsize  # at least one map of 8 channels an image
