"""Loss functions of VAEs and GANs; likelihoods and divergences are in nats.

Reductions are part of a definition: the terms of the ELBO are summed over pixels and latents and returned one an image;
the adversarial losses are means over the batch.
"""

from __future__ import annotations

import math

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


def gaussian_nll(mean: Tensor, log_scale: Tensor, targets: Tensor) -> Tensor:
    """-log N(x; mean, exp(log_scale)^2), a density, in nats summed over pixels, float32 [batch].

    = sum_i [(x_i - mean_i)^2 / (2 exp(2 log_scale_i)) + log_scale_i + log(2 pi) / 2]. All are [batch, channels, height,
    width].
    """
    mean, log_scale, targets = mean.float(), log_scale.float(), targets.float()
    terms = 0.5 * ((targets - mean) * (-log_scale).exp()).square() + log_scale + 0.5 * math.log(2 * math.pi)
    return terms.flatten(1).sum(1)


def discretized_logistic_nll(mean: Tensor, log_scale: Tensor, targets: Tensor) -> Tensor:
    """-log P(x) of pixel levels x = i / 255, in nats summed over pixels, float32 [batch].

    P(x) = sigmoid(b) - sigmoid(a) with b, a = (x +- 1/510 - mean) / exp(log_scale); level 0 takes all that is below, so
    that a is -inf, and level 255 all that is above (Salimans et al. 2017, arXiv:1701.05517, section 2.1). In between,
    log P = log sigmoid(b) + log sigmoid(-a) + log(1 - exp(a - b)), an identity in which nothing cancels or overflows.
    All are [batch, channels, height, width].
    """
    mean, log_scale, targets = mean.float(), log_scale.float(), targets.float()
    precision = (-log_scale).exp()
    below_upper = functional.logsigmoid((targets + 1 / 510 - mean) * precision)
    above_lower = functional.logsigmoid(-(targets - 1 / 510 - mean) * precision)
    log_width = torch.log(-torch.expm1(-precision / 255))
    middle = below_upper + above_lower + log_width
    terms = torch.where(targets < 1 / 510, below_upper, torch.where(targets > 1 - 1 / 510, above_lower, middle))
    return -terms.flatten(1).sum(1)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean_j, exp(log_variance_j)) || N(0, 1)) of every latent j, in nats, float32 [batch, latent_dim].

    = 1/2 [exp(log_variance_j) + mean_j^2 - 1 - log_variance_j]; their sum is that of the diagonal Gaussian (Kingma &
    Welling 2013, arXiv:1312.6114, appendix B). `mean` and `log_variance` are [batch, latent_dim].
    """
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (log_variance.expm1() + mean.square() - log_variance)


def free_bits_kl(terms: Tensor, least: float) -> Tensor:
    """sum_j max(least, mean over the batch of terms_j), a scalar in nats, for `gaussian_kl` [batch, latent_dim].

    A latent that costs less than `least` nats on average is not pressed further (Kingma et al. 2016, arXiv:1606.04934,
    equation 15, each latent a group of its own).
    """
    return terms.mean(0).clamp(min=least).sum()


def log_prior_ratio(latents: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log p(z) - log q(z|x) = 1/2 sum_j [log_variance_j + (z_j - mean_j)^2 exp(-log_variance_j) - z_j^2], in nats.

    p = N(0, I) and q = N(mean, diag(exp(log_variance))). The last axis of all three is that of the latents, and the sum
    runs over it; the others broadcast.
    """
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (log_variance + (latents - mean).square() * (-log_variance).exp() - latents.square()).sum(-1)


def importance_bound(log_weights: Tensor) -> Tensor:
    """-log 1/k sum_i w_i, float32 [batch], of log w_i = log p(x|z_i) + log p(z_i) - log q(z_i|x), [batch, k].

    It bounds -log p(x) from above, more closely the larger k is; -ELBO at one draw for k = 1 (Burda et al. 2015,
    arXiv:1509.00519, equation 8). Through reparameterized draws its gradient is that of equation 13: the gradients of
    the log w_i, weighted by the normalised w_i.
    """
    return math.log(log_weights.shape[1]) - log_weights.float().logsumexp(1)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))] from logits, a scalar in nats; 2 log 2 when the discriminator knows nothing.

    Goodfellow et al. 2014 (arXiv:1406.2661), equation 1, with log sigmoid(l) = -softplus(-l), which cannot overflow.
    """
    return functional.softplus(-real_logits.float()).mean() + functional.softplus(fake_logits.float()).mean()


def generator_loss(fake_logits: Tensor) -> Tensor:
    """-E[log D(G(z))] from logits, a scalar in nats: the non-saturating loss of Goodfellow et al. 2014, section 3."""
    return functional.softplus(-fake_logits.float()).mean()


def hinge_discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))], a scalar; Miyato et al. 2018 (arXiv:1802.05957), equation 16."""
    return functional.relu(1 - real_scores.float()).mean() + functional.relu(1 + fake_scores.float()).mean()


def critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """E[D(G(z))] - E[D(x)], a scalar: minus the critic's estimate of the Wasserstein distance (arXiv:1701.07875)."""
    return fake_scores.float().mean() - real_scores.float().mean()


def score_loss(fake_scores: Tensor) -> Tensor:
    """-E[D(G(z))], a scalar: the generator's side of the hinge and of the Wasserstein game."""
    return -fake_scores.float().mean()


def slope_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """E[(|dD(x)/dx| - 1)^2], a scalar; Gulrajani et al. 2017 (arXiv:1704.00028), equation 3, without its factor.

    `scores` [batch, 1] were computed from `images`, which require a gradient; so that it can be descended, the penalty
    is itself a function of D's weights. Where the slope is 0 the gradient is 0: no direction is better than another.
    """
    slopes = _squared_slopes(scores, images).clamp(min=torch.finfo(torch.float32).tiny).sqrt()
    return (slopes - 1).square().mean()


def r1_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """E[|dD(x)/dx|^2] / 2, a scalar, on real images; Mescheder et al. 2018 (arXiv:1801.04406), equation 9, gamma 1."""
    return 0.5 * _squared_slopes(scores, images).mean()


def _squared_slopes(scores: Tensor, images: Tensor) -> Tensor:
    """|dD(x)/dx|^2, float32 [batch]. A row's score must depend on no other row: no batch normalisation in D."""
    (slopes,) = torch.autograd.grad(scores.float().sum(), images, create_graph=True)
    return slopes.float().square().flatten(1).sum(1)
