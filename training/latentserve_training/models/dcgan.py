"""The settings of dcgan, a convolutional GAN that conv_gan builds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latentserve_training.models.conv_gan import ConvGanConfig


@dataclass(frozen=True, kw_only=True)
class DcganConfig(ConvGanConfig):
    """A convolutional GAN for images whose sides are multiples of 4."""

    family: Literal["dcgan"] = "dcgan"
    """The model family."""
