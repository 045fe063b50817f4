"""Runs that go wrong: they end at once, say why in one line, and keep the last good checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from training.small_runs import arguments

from latentserve_training import commands
from latentserve_training.errors import CollapsedError
from latentserve_training.models import FAMILIES, MlpGanConfig, build
from latentserve_training.run.checkpoint import Checkpoint
from latentserve_training.run.folder import RunFolder

Capture = pytest.CaptureFixture[str]


def fails(capsys: Capture, argv: list[str], run: Path) -> tuple[str, Checkpoint]:
    assert commands.train(argv) == 1
    line = capsys.readouterr().err
    assert line.startswith("latentserve-train: error: ")
    assert line.count("\n") == 1
    return line, Checkpoint.load(RunFolder(run).last)


KNOWN = {
    "elbo": {"reconstruction_nats", "kl_nats"},
    "discriminator": {"discriminator_loss_nats", "discriminator_loss", "slope_penalty"},
    "generator": {"generator_loss_nats", "generator_loss"},
}
"""The terms of every phase: a sum that is not finite has one that is not."""


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_run_that_diverges_ends_at_once_and_keeps_the_checkpoint_of_before(
    capsys: Capture, tmp_path: Path, family: str
) -> None:
    argv = arguments(family, tmp_path / "run", "--model.learning_rate", "1e30")
    line, kept = fails(capsys, argv, tmp_path / "run")
    assert "diverged in epoch 1" in line
    named = re.search(r"after step [0-4]: the (elbo|generator|discriminator)'s (\w+) is (nan|inf|-inf);", line)
    assert named is not None, line
    assert named[2] in {*KNOWN[named[1]], "gradient"}
    assert kept.progress.step == 0
    assert all(tensor.isfinite().all() for tensor in kept.model.values())


def test_the_term_that_is_not_finite_is_named(capsys: Capture, tmp_path: Path) -> None:
    """After one step of that size the posterior's means square beyond float32, while pixels can still be explained."""
    argv = arguments("mlp_vae", tmp_path / "run", "--model.learning_rate", "1e12", "--model.activation", "tanh")
    line, _ = fails(capsys, argv, tmp_path / "run")
    assert "the elbo's kl_nats is inf" in line


def test_a_discriminator_that_wins_outright_ends_the_run(capsys: Capture, tmp_path: Path) -> None:
    """The network as first published, without normalisation and dropout, against a generator of one unit."""
    run = tmp_path / "run"
    published = ("--model.batch_norm", "false", "--model.dropout", "0", "--model.generator_width", "1")
    fast = ("--model.learning_rate", "0.01", "--model.beta1", "0.9", "--model.discriminator_width", "256")
    limits = ("--model.collapse_after_steps", "10", "--model.min_diversity", "0", "--trainer.epochs", "200")
    line, kept = fails(capsys, arguments("mlp_gan", run, *published, *fast, *limits), run)
    assert "the discriminator's loss averaged" in line
    assert kept.progress.epoch >= 1
    assert all(tensor.isfinite().all() for tensor in kept.model.values())


def test_a_generator_that_draws_one_image_ends_the_run(capsys: Capture, tmp_path: Path) -> None:
    """One unit wide, it cannot draw more than one kind of image, whatever the latent."""
    run = tmp_path / "run"
    narrow = ("--model.batch_norm", "false", "--model.generator_width", "1", "--model.collapse_after_steps", "10")
    narrow += ("--model.min_diversity", "0.2")
    line, kept = fails(capsys, arguments("mlp_gan", run, *narrow), run)
    assert "the samples' variance is " in line
    assert "(limit 0.2)" in line
    assert kept.progress.step == 5


def test_diversity_is_one_for_samples_as_varied_as_the_data() -> None:
    torch.manual_seed(0)
    gan = build(MlpGanConfig(latent_dim=4, generator_width=16), (1, 4, 4)).eval()
    latents = torch.randn(1024, 4, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        samples = gan.decode(latents)
    spread = samples.var(dim=0).mean().item()
    # Data with a known variance: half of the images black, half white.
    images = torch.cat([torch.zeros(50, 1, 4, 4), torch.full((50, 1, 4, 4), 255.0)]).to(torch.uint8)
    diversity = gan.validate(images, torch.Generator().manual_seed(3)).results["diversity"]
    assert diversity == pytest.approx(spread / (0.25 * 100 / 99), rel=1e-4)


@pytest.mark.parametrize(
    ("results", "step", "sign"),
    [
        ({"discriminator_loss_nats": 9e-4, "diversity": 1.0}, 1000, "discriminator"),
        ({"discriminator_loss_nats": 1.3, "diversity": 0.19}, 1000, "variance"),
        ({"discriminator_loss_nats": 9e-4, "diversity": 0.0}, 999, None),
        ({"discriminator_loss_nats": 1e-3, "diversity": 0.2}, 5000, None),
    ],
)
def test_collapse_is_looked_for_after_a_while_and_by_two_signs(
    results: dict[str, float], step: int, sign: str | None
) -> None:
    gan = build(MlpGanConfig(), (1, 4, 4))
    if sign is None:
        gan.diagnose(results, step)
        return
    with pytest.raises(CollapsedError, match=sign):
        gan.diagnose(results, step)
