"""The parts of a small decoder: two dense layers with fixed weights, and seeded latents."""

from __future__ import annotations

import torch
from torch import nn

from latentserve_training.export.plan import Arrays


class SmallDecoder(nn.Module):
    """The layers from latents [batch, 3] over 64 units to `outputs`; what they are used for is the subclass's."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Linear(in_features=3, out_features=64)
        self.narrow = nn.Linear(in_features=64, out_features=outputs)


def seeded_latents(seed: int, count: int = 64) -> Arrays:
    """Latents [count, 3], as a graph takes them."""
    return {"latent": torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)).numpy()}
