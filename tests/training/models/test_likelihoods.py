"""The likelihoods against torch.distributions, independent arithmetic, and the fact that probabilities sum to 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal

from latentserve_training.models.likelihood import LikelihoodName, PixelParameters, build_likelihood
from latentserve_training.models.losses import discretized_logistic_nll, gaussian_nll

LEVELS = torch.arange(256).div(255).view(256, 1, 1, 1)


def full(value: float) -> Tensor:
    return torch.full((256, 1, 1, 1), value)


@given(st.integers(0, 2**31), st.floats(-3.0, 1.0))
def test_gaussian_nll_is_that_of_torch_distributions_summed_over_pixels(seed: int, log_scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    mean, x = torch.rand(2, 3, 3, 4, 4, generator=generator)
    log_scales = log_scale + torch.rand(3, 3, 4, 4, generator=generator)
    expected = -Normal(mean, log_scales.exp()).log_prob(x).sum((1, 2, 3))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(gaussian_nll(mean, log_scales, x), expected, rtol=1e-4, atol=1e-3)


@given(st.floats(0.0, 1.0), st.floats(-7.0, 2.0))
def test_the_levels_of_a_discretized_logistic_sum_to_one(mean: float, log_scale: float) -> None:
    probabilities = (-discretized_logistic_nll(full(mean), full(log_scale), LEVELS)).double().exp()
    assert probabilities.sum().item() == pytest.approx(1.0, abs=1e-4)


@given(st.floats(0.0, 1.0), st.floats(-4.0, 1.0))
def test_each_level_has_the_logistic_s_mass_within_half_a_level(mean: float, log_scale: float) -> None:
    edges = (np.arange(257) - 0.5) / 255
    cdf = 1 / (1 + np.exp(-np.clip((edges - mean) / np.exp(log_scale), -700, 700)))
    cdf[0], cdf[-1] = 0.0, 1.0
    found = (-discretized_logistic_nll(full(mean), full(log_scale), LEVELS)).double().exp().numpy()
    np.testing.assert_allclose(found, np.diff(cdf), rtol=2e-3, atol=1e-7)


def test_a_discretized_logistic_stays_finite_and_teaches_where_a_level_is_all_but_impossible() -> None:
    mean = torch.zeros(1, 1, 1, 1, requires_grad=True)
    log_scale = torch.full((1, 1, 1, 1), -7.0, requires_grad=True)
    nll = discretized_logistic_nll(mean, log_scale, torch.full((1, 1, 1, 1), 0.9))
    # Far out in the tail, -log P falls by 1 / scale for every step of the mean towards the level.
    gradients = torch.autograd.grad(nll.sum(), (mean, log_scale))
    assert nll.item() == pytest.approx(0.9 * math.exp(7), rel=1e-2)
    assert gradients[0].item() == pytest.approx(-math.exp(7), rel=1e-3)
    assert gradients[1].item() == pytest.approx(-0.9 * math.exp(7), rel=1e-2)


@pytest.mark.parametrize("name", ["gaussian", "discretized_logistic"])
def test_a_scale_is_learned_for_every_channel(name: LikelihoodName) -> None:
    """Fitted to noise of known spread around a known mean, the scale comes out as that noise's."""
    torch.manual_seed(0)
    likelihood = build_likelihood(name, (2, 8, 8))
    spread = torch.tensor([0.05, 0.2]).view(2, 1, 1)
    uniform = torch.rand(256, 2, 8, 8).clamp(1e-6, 1 - 1e-6)
    noise = torch.randn(256, 2, 8, 8) if name == "gaussian" else uniform.logit()
    x = 0.5 + spread * noise
    if name == "discretized_logistic":
        x = (x.clamp(0, 1) * 255).round() / 255
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(120):
        optimizer.zero_grad()
        parameters = likelihood.parameters_of(torch.zeros(256, 2, 8, 8))
        likelihood.nll(parameters, x).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    log_scale = likelihood.parameters_of(torch.zeros(1, 2, 8, 8)).log_scale
    assert log_scale is not None
    torch.testing.assert_close(log_scale[0, :, 0, 0].exp(), spread.flatten(), rtol=0.05, atol=0.0)


@pytest.mark.parametrize(("name", "values"), [("bernoulli", {0.0, 1.0}), ("gaussian", {0.25})])
def test_only_a_bernoulli_likelihood_observes_a_binarisation(name: LikelihoodName, values: set[float]) -> None:
    x = build_likelihood(name, (1, 8, 8)).observe(torch.full((4, 1, 8, 8), 0.25))
    assert set(x.flatten().tolist()) == values


def test_the_mean_of_logits_in_half_precision_is_rounded_once() -> None:
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    torch.testing.assert_close(PixelParameters(logits, None).mean, logits.float().sigmoid(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["gaussian", "discretized_logistic"])
def test_a_scale_beyond_its_bound_finds_back(name: LikelihoodName) -> None:
    """One step too far is not the last: where images lie far from the mean, a wider scale explains them better."""
    likelihood = build_likelihood(name, (1, 4, 4))
    (log_scale,) = likelihood.parameters()
    with torch.no_grad():
        log_scale.fill_(-9.0)
    parameters = likelihood.parameters_of(torch.zeros(2, 1, 4, 4))
    assert parameters.log_scale is not None
    assert -7 < parameters.log_scale.min().item() < -6.5
    likelihood.nll(parameters, torch.ones(2, 1, 4, 4)).mean().backward()  # type: ignore[no-untyped-call]
    assert log_scale.grad is not None
    assert log_scale.grad.max().item() < -1
