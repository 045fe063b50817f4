"""Bits a dimension: recomputed from probabilities, and left out where they would mean nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal
from training.colour_folder import colour_folder
from training.small_runs import JUDGED, arguments

from latentserve_training import commands
from latentserve_training.evaluation.bound import elbo
from latentserve_training.evaluation.config import QUICK
from latentserve_training.evaluation.evaluate import evaluate
from latentserve_training.evaluation.report import Report
from latentserve_training.models import Vae
from latentserve_training.models.bits import bits_per_dim, dequantize
from latentserve_training.models.losses import discretized_logistic_nll, gaussian_nll
from latentserve_training.run.trained_model import TrainedModel

LEVEL = 1 / 255
PIXELS = 3 * 8 * 8


def judged(tmp_path: Path, likelihood: str) -> tuple[Path, Report]:
    """A run on 8x8 colour pictures, and its report."""
    data = ("--data.name", "folder", "--data.root", str(colour_folder(tmp_path / "pictures")))
    more = ("--trainer.batch_size", "8", "--model.likelihood", likelihood)
    assert commands.train(arguments("mlp_vae", tmp_path / "run", *data, *more)) == 0
    return tmp_path / "run", evaluate(tmp_path / "run", config=JUDGED)


def test_a_uniform_guess_among_256_levels_costs_eight_bits() -> None:
    assert bits_per_dim(PIXELS * math.log(256), PIXELS) == pytest.approx(8)
    # A density of 1 over [0, 1], whose levels are 1/255 apart, gives each of them 1/255.
    assert bits_per_dim(0.0, PIXELS, LEVEL) == pytest.approx(math.log2(255))


@given(st.floats(0.0, 1.0), st.floats(-7.0, 1.0), st.integers(0, 255))
def test_a_discretised_likelihood_s_bits_are_the_code_length_of_its_level(
    mean: float, log_scale: float, level: int
) -> None:
    tensors = (torch.full((1, 1, 1, 1), value) for value in (mean, log_scale, level / 255))
    nats = discretized_logistic_nll(*tensors).item()
    edges = [(edge / 255 - mean) / math.exp(log_scale) for edge in (level - 0.5, level + 0.5)]
    below, above = (1 / (1 + math.exp(-min(max(edge, -700), 700))) for edge in edges)
    probability = (above if level < 255 else 1.0) - (below if level > 0 else 0.0)
    if probability > 1e-6:
        assert bits_per_dim(nats, 1) == pytest.approx(-math.log2(probability), rel=1e-2, abs=1e-2)


def costs(mean: float, scale: float) -> tuple[float, float, float]:
    """Of level 128 under a Gaussian: the bits with noise, those without, and those of the level's true probability."""
    level = 128 / 255
    x = torch.full((20_000, 1, 1, 1), level)
    parameters = torch.full_like(x, mean), torch.full_like(x, math.log(scale))
    images = dequantize(x, LEVEL, torch.Generator().manual_seed(0)), x
    noisy, plain = (bits_per_dim(gaussian_nll(*parameters, one).mean().item(), 1, LEVEL) for one in images)
    edges = torch.tensor([level - LEVEL / 2, level + LEVEL / 2], dtype=torch.float64)
    below, above = Normal(mean, scale).cdf(edges).tolist()  # type: ignore[no-untyped-call]
    return noisy, plain, -math.log2(above - below)


@pytest.mark.parametrize("mean", [0.3, 128 / 255, 0.9])
def test_a_wide_density_s_bits_are_the_code_length_of_the_level_that_it_integrates_to(mean: float) -> None:
    noisy, plain, true = costs(mean, 0.2)
    assert noisy == pytest.approx(true, abs=0.01)
    assert plain == pytest.approx(true, abs=0.01)


@pytest.mark.parametrize("scale", [LEVEL, LEVEL / 4, LEVEL / 20])
def test_a_narrow_density_s_bits_are_a_bound_and_without_noise_they_would_be_none(scale: float) -> None:
    noisy, plain, true = costs(128 / 255, scale)
    assert plain < true < noisy
    if scale < LEVEL:
        assert plain < 0 <= true


def test_a_discretised_model_s_bits_are_its_nats_in_report_card_log_and_manifest(tmp_path: Path) -> None:
    run, report = judged(tmp_path, "discretized_logistic")
    metrics = report.metrics
    for name in ("negative_elbo", "importance_weighted_nll"):
        expected = metrics[f"{name}_nats"] / (PIXELS * math.log(2))
        assert metrics[f"{name}_bits_per_dim"] == pytest.approx(expected, rel=1e-6)
    measured = report.sections[0].measurements
    nats, bits = (measured[f"negative_elbo_{unit}"] for unit in ("nats", "bits_per_dim"))
    assert nats.standard_error is not None
    assert bits.standard_error == pytest.approx(nats.standard_error / (PIXELS * math.log(2)))
    assert (bits.unit, bits.count) == ("bits/dim", nats.count)
    assert "nats divided by ln 2 and by the 192 values of an image." in report.sections[0].protocol
    for line in (run / "metrics.jsonl").read_text().splitlines():
        validation = json.loads(line)["validation"]
        expected = validation["negative_elbo_nats"] / (PIXELS * math.log(2))
        assert validation["negative_elbo_bits_per_dim"] == pytest.approx(expected)
    assert commands.export([str(run), "--repository", str(tmp_path / "models")]) == 0
    bundle = tmp_path / "models" / "mlp_vae" / "1"
    assert "| negative_elbo_bits_per_dim | " in (bundle / "CARD.md").read_text()
    stated = json.loads((bundle / "manifest.json").read_text())["metrics"]
    assert stated["test.negative_elbo_bits_per_dim"] == metrics["negative_elbo_bits_per_dim"]


def test_a_gaussian_model_s_bits_are_of_dequantised_images(tmp_path: Path) -> None:
    run, report = judged(tmp_path, "gaussian")
    trained = TrainedModel.load(run)
    assert isinstance(trained.model, Vae)
    images = torch.from_numpy(trained.dataset(None).test.images).float() / 255
    generator = torch.Generator().manual_seed(QUICK.seed)
    noisy = dequantize(images, LEVEL, generator)
    nats = elbo(trained.model, noisy, None, generator).negative.mean().item()
    expected = nats / (PIXELS * math.log(2)) + math.log2(255)
    assert report.metrics["negative_elbo_bits_per_dim"] == pytest.approx(expected, rel=1e-6)
    assert "importance_weighted_nll_bits_per_dim" not in report.metrics
    assert "log2(255) = 7.994" in report.sections[0].protocol
    (first, *_) = (json.loads(line)["validation"] for line in (run / "metrics.jsonl").read_text().splitlines())
    assert "negative_elbo_bits_per_dim" not in first, "its images have no noise"


def test_binarised_images_have_no_bits(tmp_path: Path) -> None:
    _, report = judged(tmp_path, "bernoulli")
    assert not [name for name in report.metrics if "bits" in name]
    assert "Bits" not in report.sections[0].protocol


def test_noise_is_centred_and_of_its_seed() -> None:
    images = torch.from_numpy(np.linspace(0, 1, 3000, dtype=np.float32)).view(1, 1, 50, 60)
    first, again = (dequantize(images, LEVEL, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert (first - images).mean().item() == pytest.approx(0, abs=1e-4)
