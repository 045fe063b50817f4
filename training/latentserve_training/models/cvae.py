"""A conditional VAE (Sohn et al. 2015): conv_vae with the label given to both networks.

The prior stays N(0, I) whatever the label, so that the latents are left with what the label does not say: the style.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latentserve_training.models.checks import require_positive, require_sides
from latentserve_training.models.conditioning import LabelledImage, LabelledVector, require_labels
from latentserve_training.models.conv_networks import ConvDecoder, ConvEncoder, ConvNetworksConfig
from latentserve_training.models.model import ImageShape
from latentserve_training.models.vae import Vae


@dataclass(frozen=True, kw_only=True)
class CvaeConfig(ConvNetworksConfig):
    """A conditional convolutional VAE for labelled images whose sides are multiples of 4."""

    family: Literal["cvae"] = "cvae"
    """The model family."""

    latent_dim: int = 16
    """Number of latent dimensions."""

    label_dim: int = 32
    """Numbers that stand for a label beside the latents."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "label_dim")


def build_cvae(config: CvaeConfig, image_shape: ImageShape, label_count: int) -> Vae:
    """A cvae with fresh weights.

    Raises:
        ConfigError: a side of the images is not a multiple of 4, or the data has no labels.
    """
    require_sides(config.family, image_shape)
    require_labels(config.family, label_count)
    channels, height, width = image_shape
    encoder = ConvEncoder(config, (channels + 1, height, width))
    decoder = ConvDecoder(config, image_shape, config.label_dim)
    return Vae(
        image_shape=image_shape,
        latent_dim=config.latent_dim,
        encoder=LabelledImage(encoder, label_count=label_count, image_shape=image_shape),
        decoder=LabelledVector(decoder, label_count=label_count, label_dim=config.label_dim),
        learning_rate=config.learning_rate,
        likelihood=config.likelihood,
        objective=config.objective,
        label_count=label_count,
    )
