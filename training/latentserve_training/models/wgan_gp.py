"""The settings of wgan_gp, a Wasserstein GAN that conv_gan builds.

The networks are those of dcgan, but the critic has no batch normalisation: the penalty is on each image's own gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from latentserve_training.errors import ConfigError
from latentserve_training.models.conv_gan import ConvGanConfig, Norm
from latentserve_training.models.game import Game


@dataclass(frozen=True, kw_only=True)
class WganGpConfig(ConvGanConfig):
    """A convolutional Wasserstein GAN for images whose sides are multiples of 4."""

    family: Literal["wgan_gp"] = "wgan_gp"
    """The model family."""

    generator_learning_rate: float | None = None
    """Adam's step size for the generator; `learning_rate` when absent."""

    beta1: float = 0.0
    """Adam's decay of the gradient's mean, for both players."""

    beta2: float = 0.9
    """Adam's decay of the gradient's square, for both players."""

    discriminator_norm: Norm = "none"
    """Normalisation of the critic's layers: none or spectral."""

    game: Game = field(default_factory=lambda: Game(loss="wasserstein", slope_penalty=10.0, discriminator_steps=5))
    """The adversarial losses and penalties, and the order of steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.game.loss != "wasserstein" or not self.game.slope_penalty:
            raise ConfigError(
                f"model.game has loss {self.game.loss} and slope_penalty {self.game.slope_penalty}; wgan_gp is the "
                "game of loss wasserstein with a positive slope_penalty, and dcgan those of others"
            )
