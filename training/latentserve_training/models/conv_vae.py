"""A convolutional VAE for images whose sides are multiples of 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latentserve_training.models.checks import require_sides
from latentserve_training.models.conv_networks import ConvDecoder, ConvEncoder, ConvNetworksConfig
from latentserve_training.models.model import ImageShape
from latentserve_training.models.vae import Vae


@dataclass(frozen=True, kw_only=True)
class ConvVaeConfig(ConvNetworksConfig):
    """A convolutional VAE for images whose sides are multiples of 4."""

    family: Literal["conv_vae"] = "conv_vae"
    """The model family."""


def build_conv_vae(config: ConvVaeConfig, image_shape: ImageShape) -> Vae:
    """A conv_vae with fresh weights.

    Raises:
        ConfigError: a side of the images is not a multiple of 4.
    """
    require_sides(config.family, image_shape)
    return Vae(
        image_shape=image_shape,
        latent_dim=config.latent_dim,
        encoder=ConvEncoder(config, image_shape),
        decoder=ConvDecoder(config, image_shape),
        learning_rate=config.learning_rate,
        likelihood=config.likelihood,
        objective=config.objective,
    )
