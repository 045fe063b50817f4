"""Random draws with gradients: reparameterization and binarization."""

from __future__ import annotations

import torch
from torch import Tensor


def reparameterize(mean: Tensor, log_variance: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """z = mean + exp(log_variance / 2) * noise with noise ~ N(0, I): a draw through which gradients flow, float32."""
    mean, log_variance = mean.float(), log_variance.float()
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    return mean + (0.5 * log_variance).exp() * noise


def binarize(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """x ~ Bernoulli(images), drawn afresh at every call. `images` are float32 in [0, 1]; so is the result."""
    return torch.bernoulli(images, generator=generator)
