"""Bounds on the likelihood: against a model whose likelihood is known in closed form, and against one another."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import termios

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latentserve_training.evaluation.bound import elbo, importance_weighted_nll
from latentserve_training.models import Vae
from latentserve_training.models.losses import bernoulli_nll, gaussian_kl

IMAGE = (1, 1, 3)
LOADINGS = torch.tensor([[1.5, -1.0, 0.5], [0.3, 0.8, -2.0]])


class Encoder(nn.Module):
    """A posterior that is off on purpose, so that the bound has something to tighten."""

    def forward(self, images: Tensor) -> Tensor:
        mean = 0.5 * (images.flatten(1) - 0.5) @ LOADINGS.T
        return torch.cat((mean, torch.full_like(mean, -0.2)), dim=1)


class Decoder(nn.Module):
    def forward(self, latents: Tensor) -> Tensor:
        return (latents @ LOADINGS).unflatten(1, IMAGE)


@pytest.fixture(scope="module")
def model() -> Vae:
    return Vae(image_shape=IMAGE, latent_dim=2, encoder=Encoder(), decoder=Decoder(), learning_rate=1e-3).eval()


def every_image() -> Tensor:
    """The eight binary images of three pixels."""
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).view(8, *IMAGE)


def exact_nll(images: Tensor) -> Tensor:
    """-log p(x) by Gauss-Hermite quadrature over both latents; exact to ten digits for so smooth a likelihood."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    latents = torch.cartesian_prod(torch.tensor(nodes), torch.tensor(nodes))
    log_weights = torch.tensor(np.outer(weights, weights).ravel() / (2 * np.pi)).log()
    logits = latents @ LOADINGS.double()
    signs = 2 * images.flatten(1).double() - 1
    log_likelihood = nn.functional.logsigmoid(signs[:, None] * logits).sum(2)
    return -(log_likelihood + log_weights).logsumexp(1)


def test_the_importance_weighted_bound_reaches_the_exact_likelihood(model: Vae) -> None:
    images = every_image()
    exact = exact_nll(images)
    assert (-exact).exp().sum().item() == pytest.approx(1, abs=1e-9), "the eight probabilities are all there are"
    found = importance_weighted_nll(model, images, None, 100_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, exact, atol=0.02, rtol=0)


def test_more_draws_tighten_the_bound_from_the_elbo_down(model: Vae) -> None:
    images = every_image().repeat(500, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    bounds = [importance_weighted_nll(model, images, None, draws, generator).mean() for draws in (1, 5, 50)]
    negative_elbo = elbo(model, images, None, generator).negative.mean()
    assert bounds[0] > bounds[1] > bounds[2] > exact_nll(images).mean() - 0.02
    torch.testing.assert_close(bounds[0], negative_elbo, atol=0.05, rtol=0)


def test_the_sum_over_draws_is_the_same_whether_or_not_it_fits_one_batch(model: Vae) -> None:
    """300 draws take two batches; one batch would need 300 rows."""
    image = every_image()[:1]
    found = importance_weighted_nll(model, image, None, 300, torch.Generator().manual_seed(4))
    noise = torch.cat(
        [torch.randn(1, count, 2, generator=g) for g in [torch.Generator().manual_seed(4)] for count in (250, 50)], 1
    )
    mean, log_variance = model.encode(image)
    latents = mean + (0.5 * log_variance).exp() * noise[0]
    log_weights = (
        -bernoulli_nll(model.decode_logits(latents), image.expand(300, -1, -1, -1)).double()
        + torch.distributions.Normal(0.0, 1.0).log_prob(latents).sum(1)
        - torch.distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(latents).sum(1)
    )
    expected = torch.tensor(300.0).double().log() - log_weights.logsumexp(0)
    torch.testing.assert_close(found, expected[None], atol=1e-5, rtol=0)


def test_the_divergence_by_latent_adds_up_and_tells_active_units(model: Vae) -> None:
    images = every_image()
    terms = elbo(model, images, None, None)
    torch.testing.assert_close(terms.kl, gaussian_kl(*terms.posterior))
    assert terms.active.tolist() == [True, True]
    assert elbo(model, images[:1].repeat(9, 1, 1, 1), None, None).active.tolist() == [False, False]
    torch.testing.assert_close(terms.reconstruction, bernoulli_nll(model.decode_logits(terms.posterior.mean), images))


def test_on_a_terminal_the_bound_shows_how_far_it_is_and_the_time_left(model: Vae) -> None:
    keyboard, screen = pty.openpty()
    termios.tcsetwinsize(screen, (24, 80))
    with os.fdopen(screen, "w") as terminal, contextlib.redirect_stderr(terminal):
        importance_weighted_nll(model, every_image(), None, 100_000, torch.Generator().manual_seed(0))
        shown = os.read(keyboard, 1 << 16).decode()
    os.close(keyboard)
    assert re.search(r"NLL: +[1-9]\d?%.*k/800k \[\d\d:\d\d<\d\d:\d\d, .*draw/s\]", shown)
