"""The networks of convolutional VAEs: two convolutions down, two up.

Upwards by nearest-neighbour enlargement and a 3x3 convolution. On MNIST a transposed convolution was seen to learn less
in as many steps; a pixel shuffle learns as much, with four times the weights. SiLU instead of ReLU is worth 15 nats
after the first epoch. A dense layer between convolutions and latents on both sides is worth 3.8 nats after seven: the
encoder says more with fewer latents, and the mixture fits them better.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from latentserve_training.models.checks import require_positive
from latentserve_training.models.model import ImageShape
from latentserve_training.models.vae import VaeConfig


@dataclass(frozen=True, kw_only=True)
class ConvNetworksConfig(VaeConfig):
    """The sizes of a convolutional VAE's networks."""

    latent_dim: int = 256
    """Number of latent dimensions."""

    narrow: int = 32
    """Channels of the outer convolutions, at full and half size."""

    wide: int = 64
    """Channels of the inner convolutions, at half and quarter size."""

    dense: int = 512
    """Units of the dense layers next to the latents, in encoder and decoder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "latent_dim", "narrow", "wide", "dense")


class ConvEncoder(nn.Sequential):
    """Images [batch, channels, H, W] to [batch, 2 * latent_dim]."""

    def __init__(self, config: ConvNetworksConfig, image_shape: ImageShape) -> None:
        channels, height, width = image_shape
        super().__init__(
            nn.Conv2d(in_channels=channels, out_channels=config.narrow, kernel_size=3, padding=1),
            nn.SiLU(),
            nn.MaxPool2d(kernel_size=2),  # [batch, narrow, H/2, W/2]
            nn.Conv2d(in_channels=config.narrow, out_channels=config.wide, kernel_size=3, padding=1),
            nn.SiLU(),
            nn.MaxPool2d(kernel_size=2),  # [batch, wide, H/4, W/4]
            nn.Flatten(),
            nn.Linear(in_features=config.wide * (height // 4) * (width // 4), out_features=config.dense),
            nn.SiLU(),
            nn.Linear(in_features=config.dense, out_features=2 * config.latent_dim),
        )


class ConvDecoder(nn.Module):
    """Latents [batch, latent_dim], with `label_dim` more numbers beside them, to logits [batch, channels, H, W]."""

    def __init__(self, config: ConvNetworksConfig, image_shape: ImageShape, label_dim: int = 0) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.start_shape = (config.wide, height // 4, width // 4)
        self.dense = nn.Sequential(
            nn.Linear(in_features=config.latent_dim + label_dim, out_features=config.dense),
            nn.SiLU(),
            nn.Linear(in_features=config.dense, out_features=config.wide * (height // 4) * (width // 4)),
        )
        self.stages = nn.Sequential(
            nn.SiLU(),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(in_channels=config.wide, out_channels=config.wide, kernel_size=3, padding=1),
            nn.SiLU(),  # [batch, wide, H/2, W/2]
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(in_channels=config.wide, out_channels=config.narrow, kernel_size=3, padding=1),
            nn.SiLU(),  # [batch, narrow, H, W]
            nn.Conv2d(in_channels=config.narrow, out_channels=channels, kernel_size=3, padding=1),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Logits of the pixels' probabilities."""
        logits: Tensor = self.stages(self.dense(latents).unflatten(1, self.start_shape))
        return logits
