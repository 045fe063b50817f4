"""The objectives, as pure functions on tensors. Logarithms are natural: likelihoods and divergences are in nats.

Reductions are part of a definition: the terms of the ELBO are summed over pixels and latents and returned one an image;
the adversarial losses are means over the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def bernoulli_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """-log p(x|z) = -sum_i [x_i log p_i + (1 - x_i) log(1 - p_i)] with p = sigmoid(logits), in nats, float32 [batch].

    `logits` and `targets` are [batch, channels, height, width]; targets are 0 or 1. For grey targets in [0, 1] the
    value is the expectation over x ~ Bernoulli(target), which is not the likelihood of any image.
    """
    return (
        functional.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none").flatten(1).sum(1)
    )


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag(exp(log_variance))) || N(0, I)) in nats, float32 [batch].

    = 1/2 sum_j [exp(log_variance_j) + mean_j^2 - 1 - log_variance_j]; Kingma & Welling 2013 (arXiv:1312.6114),
    appendix B. `mean` and `log_variance` are [batch, latent_dim].
    """
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (log_variance.expm1() + mean.square() - log_variance).sum(1)


def reparameterize(mean: Tensor, log_variance: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """z = mean + exp(log_variance / 2) * noise with noise ~ N(0, I): a draw through which gradients flow, float32."""
    mean, log_variance = mean.float(), log_variance.float()
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    return mean + (0.5 * log_variance).exp() * noise


def binarize(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """x ~ Bernoulli(images), drawn afresh at every call. `images` are float32 in [0, 1]; so is the result."""
    return torch.bernoulli(images, generator=generator)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))] from logits, a scalar in nats; 2 log 2 when the discriminator knows nothing.

    Goodfellow et al. 2014 (arXiv:1406.2661), equation 1, with log sigmoid(l) = -softplus(-l), which cannot overflow.
    """
    return functional.softplus(-real_logits.float()).mean() + functional.softplus(fake_logits.float()).mean()


def generator_loss(fake_logits: Tensor) -> Tensor:
    """-E[log D(G(z))] from logits, a scalar in nats: the non-saturating loss of Goodfellow et al. 2014, section 3."""
    return functional.softplus(-fake_logits.float()).mean()
