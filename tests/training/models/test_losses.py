"""The objectives against torch.distributions, closed forms and numerical integration."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional

from latentserve_training.evaluation.bound import elbo
from latentserve_training.models import Vae
from latentserve_training.models.losses import bernoulli_nll, discriminator_loss, gaussian_kl, generator_loss
from latentserve_training.models.random_draws import binarize, reparameterize

seeds = st.integers(0, 2**31)


def normal(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seeds, st.floats(0.01, 3.0))
def test_kl_is_that_of_torch_distributions_of_every_latent(seed: int, scale: float) -> None:
    mean, log_variance = normal(2, 3, 5, seed=seed, scale=scale)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected, rtol=1e-4, atol=1e-5)


def test_kl_of_the_prior_itself_is_zero_and_of_near_priors_is_not_negative() -> None:
    assert torch.equal(gaussian_kl(torch.zeros(1, 4), torch.zeros(1, 4)), torch.zeros(1, 4))
    # exp(l) - 1 - l cancels catastrophically near 0 unless written with expm1.
    near = gaussian_kl(torch.zeros(1, 1), torch.full((1, 1), 1e-3)).item()
    assert near == pytest.approx(0.5 * (math.expm1(1e-3) - 1e-3), rel=1e-2)


@given(seeds, st.floats(0.1, 20.0))
def test_bernoulli_nll_is_that_of_torch_distributions_summed_over_pixels(seed: int, scale: float) -> None:
    logits = normal(4, 1, 3, 3, seed=seed, scale=scale)
    targets = (normal(4, 1, 3, 3, seed=seed + 1) > 0).float()
    expected = -Bernoulli(logits=logits).log_prob(targets).sum((1, 2, 3))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(bernoulli_nll(logits, targets), expected)


def test_bernoulli_nll_stays_finite_where_a_probability_would_round_to_zero() -> None:
    assert bernoulli_nll(torch.full((1, 1, 1, 2), 200.0), torch.zeros(1, 1, 1, 2)).item() == pytest.approx(400.0)


def test_bernoulli_nll_of_grey_is_the_expectation_over_its_binarisations() -> None:
    logits, grey = normal(1, 1, 4, 4, seed=0), torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    draws = binarize(grey.expand(20_000, -1, -1, -1), generator)
    mean = bernoulli_nll(logits.expand_as(draws), draws).mean()
    torch.testing.assert_close(bernoulli_nll(logits, grey)[0], mean, rtol=0.01, atol=0.0)


def test_losses_are_computed_in_float32_from_half_precision_inputs() -> None:
    logits = torch.full((1, 1, 28, 28), 0.01, dtype=torch.bfloat16)
    loss = bernoulli_nll(logits, torch.ones_like(logits))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(784 * math.log1p(math.exp(-0.01)), rel=1e-4)
    half = torch.full((1, 256), 0.1, dtype=torch.bfloat16)
    assert gaussian_kl(half, half).dtype == torch.float32


def test_reparameterized_draws_have_the_posterior_s_moments_and_pass_gradients_on() -> None:
    mean = torch.tensor([[1.5, -2.0]], requires_grad=True)
    log_variance = torch.tensor([[0.0, math.log(0.25)]], requires_grad=True)
    draws = reparameterize(mean.expand(50_000, 2), log_variance.expand(50_000, 2), torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.mean(0), mean[0], rtol=0.0, atol=0.02)
    torch.testing.assert_close(draws.var(0), log_variance[0].exp(), rtol=0.03, atol=0.0)
    # d z / d mean = 1 and d z / d log_variance = (z - mean) / 2.
    gradients = torch.autograd.grad(draws.sum(), (mean, log_variance))
    torch.testing.assert_close(gradients[0], torch.full((1, 2), 50_000.0))
    torch.testing.assert_close(gradients[1], ((draws - mean) / 2).sum(0, keepdim=True), rtol=1e-3, atol=1e-2)


def test_binarize_draws_afresh_and_with_the_pixel_s_probability() -> None:
    grey = torch.tensor([0.0, 0.25, 1.0]).expand(40_000, 3)
    generator = torch.Generator().manual_seed(0)
    first, second = binarize(grey, generator), binarize(grey, generator)
    assert set(first.flatten().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.mean(0), torch.tensor([0.0, 0.25, 1.0]), rtol=0.0, atol=0.01)


@given(seeds)
def test_adversarial_losses_are_binary_cross_entropies(seed: int) -> None:
    real, fake = normal(2, 8, 1, seed=seed, scale=5.0)
    ones, zeros = torch.ones(8, 1), torch.zeros(8, 1)
    bce = functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(discriminator_loss(real, fake), bce(real, ones) + bce(fake, zeros))
    torch.testing.assert_close(generator_loss(fake), bce(fake, ones))


def test_a_clueless_discriminator_costs_two_log_two() -> None:
    assert discriminator_loss(torch.zeros(3, 1), torch.zeros(3, 1)).item() == pytest.approx(2 * math.log(2))


def test_the_generator_still_learns_from_a_discriminator_that_is_sure() -> None:
    sure = torch.full((1, 1), -100.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(generator_loss(sure), sure)
    assert gradient.item() == pytest.approx(-1.0)
    assert discriminator_loss(torch.full((1, 1), -1e4), torch.full((1, 1), 1e4)).isfinite()


def test_the_elbo_bounds_the_likelihood_by_the_posterior_s_gap() -> None:
    """log p(x) by quadrature over one latent: -ELBO = -log p(x) + KL(q(z|x) || p(z|x)), to the digits of the sum."""
    torch.manual_seed(0)
    model = Vae(
        image_shape=(1, 2, 2),
        latent_dim=1,
        encoder=nn.Sequential(nn.Flatten(), nn.Linear(4, 2)),
        decoder=nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 4), nn.Unflatten(1, (1, 2, 2))),
        learning_rate=1e-3,
    )
    image = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]])
    z = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        mean, log_variance = model.encode(image)
        log_joint = -bernoulli_nll(model.decode_logits(z.float()), image.expand(len(z), -1, -1, -1)).double()
        log_joint += Normal(0.0, 1.0).log_prob(z)[:, 0]  # type: ignore[no-untyped-call]
        log_q = Normal(mean.double(), (log_variance.double() / 2).exp()).log_prob(z)[:, 0]  # type: ignore[no-untyped-call]
        width = (z[1] - z[0]).log()
        log_likelihood = torch.logsumexp(log_joint + width, 0)
        gap = ((log_q + width).exp() * (log_q - (log_joint - log_likelihood))).sum()
        rows = image.expand(200_000, -1, -1, -1)
        found = elbo(model, rows, None, torch.Generator().manual_seed(0)).negative.mean()
    assert gap > 0
    assert found.item() == pytest.approx((gap - log_likelihood).item(), abs=5e-3)
