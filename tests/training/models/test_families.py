"""Every family, as data of other shapes and with labels meets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training.small_runs import arguments

from latentserve_training import commands
from latentserve_training.errors import ConfigError
from latentserve_training.models import (
    FAMILIES,
    Batch,
    ConvVaeConfig,
    CvaeConfig,
    GenerativeModel,
    ImageShape,
    MlpVaeConfig,
    Vae,
    build,
)
from latentserve_training.models.likelihood import LikelihoodName
from latentserve_training.run.trained_model import TrainedModel

Capture = pytest.CaptureFixture[str]
CONDITIONAL = ["cvae", "cgan"]
CONVOLUTIONAL = ["conv_vae", "cvae", "dcgan", "wgan_gp", "cgan"]


def step(model: GenerativeModel, batch: Batch) -> None:
    """One step of every phase."""
    for phase in model.phases():
        loss, _ = phase.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        phase.optimizer.step()
        assert loss.isfinite()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 12, 20)])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_follows_the_shape_of_the_images(family: str, shape: ImageShape) -> None:
    torch.manual_seed(0)
    model = build(FAMILIES[family](), shape, 3)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    step(model, Batch(images=torch.rand(4, *shape), labels=torch.tensor([0, 1, 2, 0])))
    # A critic's last bias, alone with one element, adds the same to every score, real or drawn: it has no gradient.
    moved = {name for name, weight in model.named_parameters() if not torch.equal(before[name], weight)}
    assert moved >= {name for name, weight in before.items() if weight.numel() > 1}
    images = model.eval().decode(torch.randn(2, model.latent_dim), model.every_label(2))
    assert images.shape == (2, *shape)
    assert 0 <= images.min() <= images.max() <= 1


@pytest.mark.parametrize("family", ["conv_vae", "mlp_vae", "cvae"])
@pytest.mark.parametrize("likelihood", ["gaussian", "discretized_logistic"])
def test_a_vae_explains_colours_with_a_scale_a_channel(family: str, likelihood: LikelihoodName) -> None:
    config = FAMILIES[family]()
    assert isinstance(config, ConvVaeConfig | MlpVaeConfig | CvaeConfig)
    model = build(replace(config, likelihood=likelihood), (3, 8, 8), 2)
    assert isinstance(model, Vae)
    labels = model.every_label(5)
    step(model, Batch(images=torch.rand(5, 3, 8, 8), labels=labels))
    parameters = model.decode_parameters(torch.randn(5, model.latent_dim), labels)
    assert parameters.log_scale is not None
    assert parameters.log_scale.shape == parameters.logits.shape == (5, 3, 8, 8)
    assert model.likelihood.nll(parameters, torch.rand(5, 3, 8, 8)).shape == (5,)


@pytest.mark.parametrize("family", CONVOLUTIONAL)
def test_a_convolutional_family_needs_sides_it_can_halve_twice(family: str) -> None:
    with pytest.raises(ConfigError, match=f"{family} takes images whose sides are multiples of 4, not 8x10"):
        build(FAMILIES[family](), (1, 8, 10), 3)


@pytest.mark.parametrize("family", CONDITIONAL)
def test_a_conditional_family_needs_data_with_labels(family: str, capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(40):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / "images" / f"{number}.png")
    data = ("--data.name", "folder", "--data.root", str(tmp_path / "images"), "--trainer.batch_size", "4")
    assert commands.train(arguments(family, tmp_path / "run", *data)) == 1
    assert f"model.family is {family}, which needs images of at least 2 labels, but the data has 0" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("family", CONDITIONAL)
def test_a_conditional_model_draws_what_it_is_asked_for(family: str, trained: Callable[[str], Path]) -> None:
    run = TrainedModel.load(trained(family))
    model, latents = run.model, run.latents(4, 0)
    assert model.label_count == 10
    assert run.checkpoint.origin.label_names == tuple("0123456789")
    zeros = model.decode(latents, torch.zeros(4, dtype=torch.int64))
    ones = model.decode(latents, torch.ones(4, dtype=torch.int64))
    # Not rounding: labels start small and have had 15 steps to grow, so they are held against what a latent does.
    by_latent = (zeros - zeros.roll(1, 0)).abs().flatten(1).max(1).values
    by_label = (zeros - ones).abs().flatten(1).max(1).values
    assert (by_label > 0.01 * by_latent).all()
    assert by_latent.min() > 1e-5
    with pytest.raises(ValueError, match="it needs labels, each from 0 to 9"):
        model.decode(latents)
    if isinstance(model, Vae):
        images = torch.rand(1, *model.image_shape)
        means = [model.encode(images, torch.tensor([label])).mean for label in (0, 1)]
        assert not torch.equal(*means)


def test_a_conditional_vae_learns_what_its_labels_look_like(tmp_path: Path) -> None:
    """Stripes across or along, by subfolder: after a few epochs the label alone decides, and the folders name it."""
    rng = np.random.default_rng(0)
    for name, stripes in (("across", np.arange(8)[:, None] % 2), ("along", np.arange(8)[None] % 2)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(40):
            pixels = 255 * stripes * np.ones((8, 8)) * rng.uniform(0.9, 1.0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / name / f"{number}.png")
    data = ("--data.name", "folder", "--data.root", str(tmp_path / "images"), "--trainer.batch_size", "16")
    more = ("--trainer.epochs", "30", "--model.learning_rate", "0.01", "--trainer.ema_decay", "0.9")
    assert commands.train(arguments("cvae", tmp_path / "run", *data, *more)) == 0
    run = TrainedModel.load(tmp_path / "run")
    assert run.checkpoint.origin.label_names == ("across", "along")
    across = run.model.decode(run.latents(8, 0), torch.zeros(8, dtype=torch.int64))
    along = run.model.decode(run.latents(8, 0), torch.ones(8, dtype=torch.int64))
    assert (across[..., 1::2, :].mean() - across[..., ::2, :].mean()).item() > 0.5
    assert (along[..., 1::2].mean() - along[..., ::2].mean()).item() > 0.5
