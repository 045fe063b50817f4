"""A convolutional VAE for images whose sides are multiples of 4, with latents that are a vector or an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from latentserve.contract import MAX_LATENT_DIM
from latentserve_training.errors import ConfigError
from latentserve_training.models.checks import require_sides
from latentserve_training.models.conv_networks import ConvDecoder, ConvEncoder, ConvNetworksConfig
from latentserve_training.models.latent_maps import LatentShape, MapDecoder, MapEncoder
from latentserve_training.models.model import ImageShape
from latentserve_training.models.vae import Vae


@dataclass(frozen=True, kw_only=True)
class ConvVaeConfig(ConvNetworksConfig):
    """A convolutional VAE for images whose sides are multiples of 4."""

    family: Literal["conv_vae"] = "conv_vae"
    """The model family."""

    latent_shape: LatentShape | None = None
    """Channels, height and width of image-shaped latents, without dense layers; latent_dim is then their product."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent_shape is not None:
            self._take_shape(self.latent_shape)

    def _take_shape(self, shape: LatentShape) -> None:
        values, default = math.prod(shape), ConvNetworksConfig.latent_dim
        if min(shape) < 1 or values > MAX_LATENT_DIM:
            raise ConfigError(
                f"model.latent_shape is {[*shape]}; it must be three numbers of at least 1, whose product is at most "
                f"{MAX_LATENT_DIM:,}"
            )
        if self.latent_dim not in (values, default):
            raise ConfigError(
                f"model.latent_dim is {self.latent_dim}, but a model.latent_shape of {[*shape]} has {values:,} values; "
                "leave model.latent_dim out"
            )
        object.__setattr__(self, "latent_dim", values)  # a frozen dataclass has no other way


def build_conv_vae(config: ConvVaeConfig, image_shape: ImageShape) -> Vae:
    """A conv_vae with fresh weights.

    Raises:
        ConfigError: a side of the images is not a multiple of 4, or the latents' sides are not the images' halved.
    """
    require_sides(config.family, image_shape)
    encoder, decoder = _networks(config, image_shape)
    return Vae(
        image_shape=image_shape,
        latent_dim=config.latent_dim,
        latent_shape=config.latent_shape,
        encoder=encoder,
        decoder=decoder,
        learning_rate=config.learning_rate,
        likelihood=config.likelihood,
        objective=config.objective,
    )


def _networks(config: ConvVaeConfig, image_shape: ImageShape) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder; the encoder first, since both draw their weights from one generator."""
    shape = config.latent_shape
    if shape is None:
        return ConvEncoder(config, image_shape), ConvDecoder(config, image_shape)
    return MapEncoder(config, image_shape, shape), MapDecoder(config, image_shape, shape)
