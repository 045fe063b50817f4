"""Bounds on a VAE's log-likelihood: the ELBO and the importance-weighted bound."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from latentserve_training.models import Posterior, Vae, active_latents
from latentserve_training.models.losses import gaussian_kl, log_prior_ratio
from latentserve_training.models.random_draws import reparameterize

_IMAGES = 250
_DECODED_ROWS = 250


@dataclass(frozen=True)
class Elbo:
    """The terms of the ELBO, an image a row."""

    reconstruction: Tensor
    """-log p(x|z) at one z, nats, float32 [n]."""
    kl: Tensor
    """KL(q(z|x) || N(0, I)) of every latent dimension, nats, float32 [n, latent_dim]; their sum is the divergence."""
    posterior: Posterior
    """q(z|x)."""

    @property
    def negative(self) -> Tensor:
        """-ELBO(x) = -log p(x|z) + KL, nats, float64 [n]."""
        return self.reconstruction.double() + self.kl.double().sum(1)

    @property
    def active(self) -> Tensor:
        """Which latents depend on the image, bool [latent_dim]."""
        return active_latents(self.posterior.mean)


@torch.no_grad()
def elbo(model: Vae, pixels: Tensor, labels: Tensor | None, generator: torch.Generator | None) -> Elbo:
    """The ELBO of pixels float32 [n, channels, height, width], at a z drawn from `generator`; without one, at the mean.

    Pixels are as `model.likelihood.observe` gives them, or grey; labels are int64 [n] for a conditional model.
    """
    reconstructions, means, log_variances = [], [], []
    for rows in tqdm(torch.split(torch.arange(len(pixels)), _IMAGES), desc="ELBO", leave=False, disable=None):
        asked = None if labels is None else labels[rows]
        mean, log_variance = model.encode(pixels[rows], asked)
        latents = mean if generator is None else reparameterize(mean, log_variance, generator)
        reconstructions.append(model.likelihood.nll(model.decode_parameters(latents, asked), pixels[rows]))
        means.append(mean)
        log_variances.append(log_variance)
    posterior = Posterior(torch.cat(means), torch.cat(log_variances))
    return Elbo(torch.cat(reconstructions), gaussian_kl(*posterior), posterior)


@torch.no_grad()
def importance_weighted_nll(
    model: Vae, pixels: Tensor, labels: Tensor | None, draws: int, generator: torch.Generator
) -> Tensor:
    """-log 1/K sum_k p(x, z_k) / q(z_k|x) with z_k ~ q(z|x) and K = `draws`, in nats, float64 [n].

    This upper bound on -log p(x) falls to it as K grows (Burda et al. 2015, arXiv:1509.00519, equation 8 and theorem
    1). At most 250 images are decoded at a time, whatever K is: the sum is carried along as its logarithm.
    """
    images_at_once = max(1, _DECODED_ROWS // draws)
    results = []
    with tqdm(total=len(pixels) * draws, desc="NLL", unit="draw", unit_scale=True, leave=False, disable=None) as bar:
        for rows in torch.split(torch.arange(len(pixels)), images_at_once):
            asked = None if labels is None else labels[rows]
            posterior = model.encode(pixels[rows], asked)
            total = torch.full((len(rows),), -torch.inf, dtype=torch.float64)
            for start in range(0, draws, _DECODED_ROWS):
                count = min(_DECODED_ROWS, draws - start)
                weights = _log_weights(model, pixels[rows], asked, posterior, count, generator)
                total = torch.logaddexp(total, weights.double().logsumexp(1))
                bar.update(len(rows) * count)
            results.append(torch.tensor(draws, dtype=torch.float64).log() - total)
    return torch.cat(results)


def _log_weights(
    model: Vae, pixels: Tensor, labels: Tensor | None, posterior: Posterior, draws: int, generator: torch.Generator
) -> Tensor:
    """log p(x|z) + log p(z) - log q(z|x), float32 [n, draws]."""
    mean, log_variance = (tensor.unsqueeze(1).expand(-1, draws, -1) for tensor in posterior)
    latents = reparameterize(mean, log_variance, generator)
    asked = None if labels is None else labels.repeat_interleave(draws)
    parameters = model.decode_parameters(latents.flatten(0, 1), asked)
    explained = -model.likelihood.nll(parameters, pixels.repeat_interleave(draws, dim=0))
    return explained.view(len(pixels), draws) + log_prior_ratio(latents, mean, log_variance)
