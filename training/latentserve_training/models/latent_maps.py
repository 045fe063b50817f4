"""The networks of a convolutional VAE with image-shaped latents: no dense layer between convolutions and latents."""

from __future__ import annotations

from itertools import count, takewhile

from torch import Tensor, nn

from latentserve_training.errors import ConfigError
from latentserve_training.models.conv_networks import ConvNetworksConfig
from latentserve_training.models.model import ImageShape

LatentShape = tuple[int, int, int]
"""Channels, height and width of a latent."""


def halvings(image_shape: ImageShape, latent_shape: LatentShape) -> int:
    """How often the images' sides are halved on the way to the latent's, at least once.

    Raises:
        ConfigError: no number of halvings makes the one of the other.
    """
    height, width = image_shape[1:]
    possible = takewhile(lambda times: height % 2**times == 0 == width % 2**times, count(1))
    sides = {(height >> times, width >> times): times for times in possible}
    if latent_shape[1:] not in sides:
        allowed = " or ".join(f"{rows}x{columns}" for rows, columns in sides)
        raise ConfigError(
            f"model.latent_shape is {[*latent_shape]}; for images of {height}x{width} a latent is {allowed}, their "
            "sides halved"
        )
    return sides[latent_shape[1:]]


class MapEncoder(nn.Sequential):
    """Images [batch, channels, H, W] to rows [batch, 2 * c * h * w]: c maps of means, then as many of log-variances."""

    def __init__(self, config: ConvNetworksConfig, image_shape: ImageShape, latent_shape: LatentShape) -> None:
        layers: list[nn.Module] = []
        channels = image_shape[0]
        for stage in range(halvings(image_shape, latent_shape)):
            width = config.wide if stage else config.narrow
            layers += [_conv(channels, width), nn.SiLU(), nn.MaxPool2d(kernel_size=2)]
            channels = width
        super().__init__(*layers, _conv(channels, 2 * latent_shape[0]), nn.Flatten())


class MapDecoder(nn.Module):
    """Latents, rows [batch, c * h * w], to logits [batch, channels, H, W]."""

    def __init__(self, config: ConvNetworksConfig, image_shape: ImageShape, latent_shape: LatentShape) -> None:
        super().__init__()
        self.latent_shape = latent_shape
        layers: list[nn.Module] = [_conv(latent_shape[0], config.wide), nn.SiLU()]
        for stage in reversed(range(halvings(image_shape, latent_shape))):
            width = config.wide if stage else config.narrow
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), _conv(config.wide, width), nn.SiLU()]
        self.stages = nn.Sequential(*layers, _conv(config.narrow, image_shape[0]))

    def forward(self, latents: Tensor) -> Tensor:
        """Logits of the pixels' means."""
        logits: Tensor = self.stages(latents.reshape(-1, *self.latent_shape))
        return logits


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels=inputs, out_channels=outputs, kernel_size=3, padding=1)
