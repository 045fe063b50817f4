"""A conditional GAN: the networks of dcgan, told which label to draw and which to expect.

The generator reads an embedding of the label beside its latents. The discriminator projects: its score is that of the
features, plus their inner product with an embedding of the label (Miyato & Koyama 2018, arXiv:1802.05637, equation 3).

A label is few and at first small numbers beside many latents, and D's slope is penalised: on MNIST a generator that was
told the label by 32 numbers drew one image a label, whatever the latent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from latentserve_training.models.conditioning import LabelledVector, require_labels
from latentserve_training.models.dcgan import (
    ConvFeatures,
    ConvGanConfig,
    ConvGenerator,
    Norm,
    spectrally_normalised,
)
from latentserve_training.models.game import Game
from latentserve_training.models.gan import Gan
from latentserve_training.models.model import ImageShape, require_positive, require_sides

_FIRST_LABEL_SPREAD = 0.1


@dataclass(frozen=True, kw_only=True)
class CganConfig(ConvGanConfig):
    """A conditional convolutional GAN for labelled images whose sides are multiples of 4."""

    family: Literal["cgan"] = "cgan"
    """The model family."""

    label_dim: int = 8
    """Numbers that stand for a label beside the latents."""

    discriminator_norm: Norm = "none"
    """Of the discriminator's layers: batch, all but the outermost; spectral, all (Miyato et al. 2018); or none."""

    game: Game = field(default_factory=lambda: Game(r1=0.5, r1_every=4))
    """What the players descend."""

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
        self.head = nn.Linear(in_features=self.features.size, out_features=1)
        self.projections = nn.Embedding(num_embeddings=label_count, embedding_dim=self.features.size)
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
    inputs = config.latent_dim + config.label_dim
    generator = LabelledVector(
        ConvGenerator(latent_dim=inputs, width=config.width, image_shape=image_shape),
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
