"""What every generative adversarial network shares: the two-player step, and the signs that the game is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from latentserve_training.errors import CollapsedError
from latentserve_training.losses import discriminator_loss, generator_loss
from latentserve_training.models.model import GenerativeModel, ImageShape, Phase

_DIVERSITY_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """Adam's settings, the same for both players."""

    learning_rate: float
    beta1: float


@dataclass(frozen=True, kw_only=True)
class CollapseConfig:
    """When a game counts as lost."""

    after_steps: int
    min_discriminator_loss: float
    min_diversity: float


class Gan(GenerativeModel):
    """A GAN with the non-saturating loss.

    `generator` maps latents to images in [0, 1]; `discriminator` maps images to logits [batch, 1].
    """

    selection: ClassVar[str | None] = None

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        latent_dim: int,
        generator: nn.Module,
        discriminator: nn.Module,
        adam: AdamConfig,
        collapse: CollapseConfig,
    ) -> None:
        super().__init__(image_shape=image_shape, latent_dim=latent_dim)
        self.generator = generator
        self.discriminator = discriminator
        self.adam = adam
        self.collapse = collapse

    def decode(self, latents: Tensor) -> Tensor:
        """The generator's images."""
        images: Tensor = self.generator(latents)
        return images

    def phases(self) -> list[Phase]:
        """First the discriminator's step, then the generator's against the discriminator just moved."""
        return [
            Phase("discriminator", self._adam(self.discriminator), self._discriminator_loss),
            Phase("generator", self._adam(self.generator), self._generator_loss),
        ]

    def _adam(self, player: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(player.parameters(), lr=self.adam.learning_rate, betas=(self.adam.beta1, 0.999))

    def _fake(self, like: Tensor) -> Tensor:
        return self.decode(torch.randn(len(like), self.latent_dim, device=like.device))

    def _discriminator_loss(self, images: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        with torch.no_grad():
            fake = self._fake(images)
        loss = discriminator_loss(self.discriminator(images), self.discriminator(fake))
        return loss, {"discriminator_loss_nats": loss}

    def _generator_loss(self, images: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss = generator_loss(self.discriminator(self._fake(images)))
        return loss, {"generator_loss_nats": loss}

    @torch.no_grad()
    def validate(self, images: Tensor, generator: torch.Generator) -> dict[str, float]:
        """`diversity`: the samples' variance, averaged over pixels, as a fraction of that of `images`."""
        latents = torch.randn(_DIVERSITY_ROWS, self.latent_dim, generator=generator, device=images.device)
        spread = self.decode(latents).var(dim=0).mean()
        return {"diversity": (spread / (images.float() / 255).var(dim=0).mean()).item()}

    def diagnose(self, results: Mapping[str, float], step: int) -> None:
        """Say so when the discriminator has won outright or the generator draws one image for every latent."""
        if step < self.collapse.after_steps:
            return
        loss = results["discriminator_loss_nats"]
        if loss < self.collapse.min_discriminator_loss:
            raise CollapsedError(
                f"collapsed at step {step}: the discriminator's loss averaged {loss:.1e} nats over an epoch (limit "
                f"{self.collapse.min_discriminator_loss:g}), so the generator has nothing left to learn from"
            )
        if results["diversity"] < self.collapse.min_diversity:
            raise CollapsedError(
                f"collapsed at step {step}: the samples' variance is {results['diversity']:.3f} of the data's (limit "
                f"{self.collapse.min_diversity:g}), so the generator draws much the same image from every latent"
            )
