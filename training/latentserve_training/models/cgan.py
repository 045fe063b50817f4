"""A conditional GAN: dcgan with the label given to both networks.

The generator reads an embedding of the label beside its latents. The discriminator projects: its score is that of the
features, plus their inner product with an embedding of the label (Miyato & Koyama 2018, arXiv:1802.05637, equation 3).

A label is few and at first small numbers beside many latents: on MNIST, with R1 in the place of batch normalisation, a
generator that was told the label by 32 numbers drew one image a label, whatever the latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from latentserve_training.models.checks import require_positive, require_sides
from latentserve_training.models.conditioning import LabelledVector, require_labels
from latentserve_training.models.conv_gan import (
    ConvFeatures,
    ConvGanConfig,
    ConvGenerator,
    spectrally_normalised,
)
from latentserve_training.models.gan import Gan
from latentserve_training.models.model import ImageShape

_FIRST_LABEL_SPREAD = 0.1


@dataclass(frozen=True, kw_only=True)
class CganConfig(ConvGanConfig):
    """A conditional convolutional GAN for labelled images whose sides are multiples of 4."""

    family: Literal["cgan"] = "cgan"
    """The model family."""

    label_dim: int = 8
    """Numbers that stand for a label beside the latents."""

    collapse_after_steps: int = 5000
    """Steps before collapse is looked for; a generator draws labels before it varies them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "label_dim")


class ProjectionDiscriminator(nn.Module):
    """Images [batch, channels, height, width] in [0, 1] and labels [batch] to scores [batch, 1]."""

    def __init__(self, config: CganConfig, image_shape: ImageShape, label_count: int) -> None:
        super().__init__()
        self.features = ConvFeatures(config, image_shape)
        self.head = nn.Linear(in_features=config.dense, out_features=1)
        self.projections = nn.Embedding(num_embeddings=label_count, embedding_dim=config.dense)
        nn.init.zeros_(self.projections.weight)
        if config.discriminator_norm == "spectral":
            nn.init.normal_(self.projections.weight)
            spectrally_normalised(self)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Scores of the images' being real and of these labels."""
        features = self.features(images)
        score: Tensor = self.head(features) + (self.projections(labels) * features).sum(1, keepdim=True)
        return score


def build_cgan(config: CganConfig, image_shape: ImageShape, label_count: int) -> Gan:
    """A cgan with fresh weights.

    Raises:
        ConfigError: a side of the images is not a multiple of 4, or the data has no labels.
    """
    require_sides(config.family, image_shape)
    require_labels(config.family, label_count)
    generator = LabelledVector(
        ConvGenerator(config, image_shape, config.label_dim),
        label_count=label_count,
        label_dim=config.label_dim,
    )
    nn.init.normal_(generator.embedding.weight, std=_FIRST_LABEL_SPREAD)
    return Gan(
        image_shape=image_shape,
        generator=generator,
        discriminator=ProjectionDiscriminator(config, image_shape, label_count),
        config=config,
        label_count=label_count,
    )
