"""A dense GAN, and its settings.

As first published (no normalisation, no dropout) it collapses: the discriminator wins within a few epochs. Batch
normalisation in the generator and dropout in the discriminator keep the game even; both can be turned off to see it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from latentserve_training.models.checks import require_fraction, require_positive
from latentserve_training.models.gan import Gan, GanConfig
from latentserve_training.models.model import ImageShape

_LEAK = 0.2


@dataclass(frozen=True, kw_only=True)
class MlpGanConfig(GanConfig):
    """A dense GAN for images of any size."""

    family: Literal["mlp_gan"] = "mlp_gan"
    """The model family."""

    generator_width: int = 256
    """Units of each of the generator's three hidden layers."""

    discriminator_width: int = 256
    """Units of each of the discriminator's two hidden layers."""

    batch_norm: bool = True
    """Normalise the generator's hidden layers over the batch."""

    dropout: float = 0.3
    """Share of the discriminator's hidden units dropped in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "generator_width", "discriminator_width")
        require_fraction(self, "dropout")


def _generator(config: MlpGanConfig, image_shape: ImageShape) -> nn.Sequential:
    layers: list[nn.Module] = []
    features = config.latent_dim
    for _ in range(3):
        layers.append(nn.Linear(in_features=features, out_features=config.generator_width))
        if config.batch_norm:
            layers.append(nn.BatchNorm1d(num_features=config.generator_width))
        layers.append(nn.LeakyReLU(negative_slope=_LEAK))
        features = config.generator_width
    return nn.Sequential(
        *layers,
        nn.Linear(in_features=features, out_features=math.prod(image_shape)),
        nn.Sigmoid(),
        nn.Unflatten(dim=1, unflattened_size=image_shape),
    )


class MlpDiscriminator(nn.Module):
    """Images [batch, channels, height, width] in [0, 1] to logits [batch, 1]."""

    def __init__(self, config: MlpGanConfig, image_shape: ImageShape) -> None:
        super().__init__()
        width = config.discriminator_width
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_features=math.prod(image_shape), out_features=width),
            nn.LeakyReLU(negative_slope=_LEAK),
            nn.Dropout(p=config.dropout),
            nn.Linear(in_features=width, out_features=width),
            nn.LeakyReLU(negative_slope=_LEAK),
            nn.Dropout(p=config.dropout),
            nn.Linear(in_features=width, out_features=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the images' being real."""
        logits: Tensor = self.layers(2 * images - 1)
        return logits


def build_mlp_gan(config: MlpGanConfig, image_shape: ImageShape) -> Gan:
    """An mlp_gan with fresh weights."""
    return Gan(
        image_shape=image_shape,
        generator=_generator(config, image_shape),
        discriminator=MlpDiscriminator(config, image_shape),
        config=config,
    )
