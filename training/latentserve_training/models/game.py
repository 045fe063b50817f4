"""The settings of a GAN's adversarial game: which loss, which penalties, how many steps of each network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from latentserve_training.errors import ConfigError
from latentserve_training.models.checks import require_not_negative
from latentserve_training.models.losses import (
    critic_loss,
    discriminator_loss,
    generator_loss,
    hinge_discriminator_loss,
    score_loss,
)

AdversarialLoss = Literal["non_saturating", "hinge", "wasserstein"]


@dataclass(frozen=True, kw_only=True)
class Game:
    """What the two players of a GAN descend, and when."""

    loss: AdversarialLoss = "non_saturating"
    """non_saturating (Goodfellow et al. 2014), hinge (Miyato et al. 2018) or wasserstein, which needs a bound on D."""

    slope_penalty: float = 0.0
    """Weight of the mean of (|gradient of D| - 1)^2 between real and drawn images (WGAN-GP: 10)."""

    r1: float = 0.0
    """Weight, gamma, of half the mean of |gradient of D|^2 at real images (Mescheder et al. 2018)."""

    r1_every: int = 1
    """Steps from one R1 penalty to the next, which then weighs as many times as much (Karras et al. 2020: 16)."""

    discriminator_steps: int = 1
    """Steps of the discriminator to one of the generator."""

    def __post_init__(self) -> None:
        require_not_negative("model.game", self, "slope_penalty", "r1")
        for field in ("r1_every", "discriminator_steps"):
            if getattr(self, field) < 1:
                raise ConfigError(f"model.game.{field} is {getattr(self, field)}; it must be at least 1")

    @property
    def penalises(self) -> bool:
        """Whether the gradients of D are penalised, image by image."""
        return bool(self.slope_penalty or self.r1)

    @property
    def unit(self) -> str:
        """The suffix of the losses' names."""
        return "_nats" if self.loss == "non_saturating" else ""

    @property
    def can_be_won(self) -> bool:
        """Whether a discriminator's loss of 0 means that it has won; a critic's loss has no minimum."""
        return self.loss != "wasserstein"

    @property
    def discriminator(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The discriminator's loss of the scores of real and of drawn images."""
        return {
            "non_saturating": discriminator_loss, "hinge": hinge_discriminator_loss, "wasserstein": critic_loss
        }[self.loss]  # fmt: skip

    @property
    def generator(self) -> Callable[[Tensor], Tensor]:
        """The generator's loss of the scores of drawn images."""
        return generator_loss if self.loss == "non_saturating" else score_loss
