"""Bits a dimension: a bound in nats as the length of a code for the 256 levels of an image's pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def bits_per_dim(nats: float, dims: int, level_width: float = 1.0) -> float:
    """-log2 P(x) / dims = nats / (dims ln 2) - log2(level_width), for -log p(x) in nats of an image of `dims` values.

    `level_width` is the measure of a level: 1 where p is a probability of the levels, the distance of two levels where
    it is a density, whose nats are then those of a dequantised image.
    """
    return nats / (dims * math.log(2)) - math.log2(level_width)


def dequantize(images: Tensor, level_width: float, generator: torch.Generator) -> Tensor:
    """Images with uniform noise as wide as a level, each value in the middle of its own: x + level_width (u - 1/2).

    The mean of -log p over that noise, with `bits_per_dim`, bounds -log2 of the probability that the density gives to
    the stored image (Theis et al. 2016, "A note on the evaluation of generative models", arXiv:1511.01844, section
    3.1). Without the noise there is no bound: a density may be as high as it likes on 256 points.
    """
    noise = torch.rand(images.shape, generator=generator, device=images.device)
    return images + level_width * (noise - 0.5)
