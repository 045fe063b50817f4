"""The base class of all GANs, with its settings: the two-player step and signs of collapse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from latentserve_training.errors import CollapsedError
from latentserve_training.models.checks import require_fraction, require_not_negative, require_positive
from latentserve_training.models.game import Game
from latentserve_training.models.losses import r1_penalty, slope_penalty
from latentserve_training.models.model import Batch, GenerativeModel, ImageShape, Phase, Validation
from latentserve_training.number_text import apart

_DIVERSITY_ROWS = 1024
_PIXELS_AT_ONCE = 64
"""Pixels of all images that are float32 at once: many images take four times their memory."""
_ROWS_A_LABEL = 2
"""The fewest that have a variance."""


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """The settings of every GAN."""

    latent_dim: int = 100
    """Number of latent dimensions."""

    learning_rate: float = 2e-4
    """Adam's step size."""

    generator_learning_rate: float | None = None
    """Adam's step size for the generator; `learning_rate` when absent."""

    beta1: float = 0.5
    """Adam's decay of the gradient's mean, for both players."""

    beta2: float = 0.999
    """Adam's decay of the gradient's square, for both players."""

    game: Game = field(default_factory=Game)
    """The adversarial losses and penalties, and the order of steps."""

    collapse_after_steps: int = 1000
    """Steps before collapse is looked for; a generator starts out drawing grey mush."""

    min_discriminator_loss: float = 1e-3
    """Collapsed when the discriminator's loss averages less than this over an epoch; not for wasserstein."""

    min_diversity: float = 0.2
    """Collapsed when the samples' pixel variance is less than this fraction of the data's."""

    def __post_init__(self) -> None:
        require_positive(self, "latent_dim", "learning_rate", "generator_learning_rate")
        require_fraction(self, "beta1", "beta2")
        require_not_negative("model", self, "collapse_after_steps", "min_discriminator_loss", "min_diversity")


class Gan(GenerativeModel):
    """A generator and a discriminator, each with an Adam of its own.

    `generator` maps latents to images in [0, 1]; `discriminator` maps images to scores [batch, 1], which for the
    non-saturating loss are logits. With a `label_count`, both take labels as their second argument, and a drawn image
    is meant to be of the label of the real one in its row.
    """

    selection = None

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        generator: nn.Module,
        discriminator: nn.Module,
        config: GanConfig,
        label_count: int = 0,
    ) -> None:
        super().__init__(image_shape=image_shape, latent_dim=config.latent_dim, label_count=label_count)
        self.generator = generator
        self.discriminator = discriminator
        self.config = config

    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """The generator's images."""
        return self._run(self.generator, latents, labels)

    def phases(self) -> list[Phase]:
        """First the discriminator's step, then the generator's against the discriminator just moved."""
        return [
            Phase(
                "discriminator",
                self._adam(self.discriminator, self.config.learning_rate),
                self._discriminator_loss,
                period=self.config.game.r1_every if self.config.game.r1 else 1,
            ),
            Phase(
                "generator",
                self._adam(self.generator, self.config.generator_learning_rate or self.config.learning_rate),
                self._generator_loss,
                every=self.config.game.discriminator_steps,
            ),
        ]

    def _adam(self, player: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        betas = (self.config.beta1, self.config.beta2)
        return torch.optim.Adam(player.parameters(), lr=learning_rate, betas=betas, fused=True)

    def _fake(self, batch: Batch) -> Tensor:
        latents = torch.randn(len(batch.images), self.latent_dim, device=batch.images.device)
        return self.decode(latents, batch.labels)

    def _scores(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self._run(self.discriminator, images, labels)

    def _discriminator_loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        game = self.config.game
        with torch.no_grad():
            fake = self._fake(batch)
        loss = game.discriminator(self._scores(batch.images, batch.labels), self._scores(fake, batch.labels))
        logged = {f"discriminator_loss{game.unit}": loss}
        if game.slope_penalty:
            logged["slope_penalty"] = self._slope_penalty(batch, fake)
            loss = loss + game.slope_penalty * logged["slope_penalty"]
        if game.r1 and batch.step % game.r1_every == 0:
            logged["r1_penalty"] = self._r1_penalty(batch)
            loss = loss + game.r1 * game.r1_every * logged["r1_penalty"]
        return loss, logged

    def _slope_penalty(self, batch: Batch, fake: Tensor) -> Tensor:
        """At one point, uniformly drawn, on the line between every real image and the one drawn in its row."""
        # Not in half precision, whose 8 or 11 bits a gradient of a gradient would leave little of.
        with torch.autocast(batch.images.device.type, enabled=False):
            share = torch.rand(len(fake), 1, 1, 1, device=fake.device)
            between = torch.lerp(batch.images, fake.float(), share).requires_grad_()
            return slope_penalty(self._scores(between, batch.labels), between)

    def _r1_penalty(self, batch: Batch) -> Tensor:
        with torch.autocast(batch.images.device.type, enabled=False):
            images = batch.images.detach().requires_grad_()
            return r1_penalty(self._scores(images, batch.labels), images)

    def _generator_loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss = self.config.game.generator(self._scores(self._fake(batch), batch.labels))
        return loss, {f"generator_loss{self.config.game.unit}": loss}

    @torch.no_grad()
    def validate(self, images: Tensor, generator: torch.Generator, labels: Tensor | None = None) -> Validation:
        """`diversity`: the samples' variance, averaged over pixels, as a fraction of that of `images`.

        With labels, that of the samples and images of one label; the lowest over the labels that have a variance.
        """
        count = max(_DIVERSITY_ROWS, _ROWS_A_LABEL * self.label_count)
        latents = torch.randn(count, self.latent_dim, generator=generator, device=generator.device)
        asked = self.every_label(count, generator.device)
        samples = self.decode(latents, asked)
        ratios = [_variance(samples) / _variance(images)]
        if asked is not None and labels is not None:
            known = [(samples[asked == label], images[labels == label]) for label in range(self.label_count)]
            pairs = [(_variance(ours), _variance(theirs)) for ours, theirs in known if len(theirs) > 1]
            ratios = [ours / theirs for ours, theirs in pairs if theirs > 0] or ratios
        return Validation({"diversity": torch.tensor(ratios).min().item()})

    def diagnose(self, results: Mapping[str, float], step: int) -> list[str]:
        """Warnings if the discriminator has won outright or the generator draws one image for every latent."""
        config = self.config
        if step < config.collapse_after_steps:
            return []
        loss = results[f"discriminator_loss{config.game.unit}"]
        if config.game.can_be_won and loss < config.min_discriminator_loss:
            averaged, limit = apart(loss, config.min_discriminator_loss)
            raise CollapsedError(
                f"collapsed at step {step}: the discriminator's loss averaged {averaged}"
                f"{config.game.unit.replace('_', ' ')} over an epoch (limit {limit}), "
                "so the generator has nothing left to learn from"
            )
        if sameness := self._sameness(results["diversity"]):
            raise CollapsedError(
                f"collapsed at step {step}: {sameness}, so the generator draws much the same image from every latent"
            )
        return []

    def collapse(self, images: Tensor, generator: torch.Generator, labels: Tensor | None = None) -> str:
        """Judged only by the samples' variance, whatever the number of steps."""
        return self._sameness(self.validate(images, generator, labels).results["diversity"])

    def _sameness(self, diversity: float) -> str:
        if diversity >= self.config.min_diversity:
            return ""
        variance, limit = apart(diversity, self.config.min_diversity)
        return f"the samples' variance is {variance} of the data's (limit {limit})"


def _variance(images: Tensor) -> float:
    """The variance over images [n, channels, height, width], averaged over pixels: bytes, or float32 in [0, 1]."""
    scale = 255 if images.dtype == torch.uint8 else 1
    pixels = torch.split(images.flatten(1), _PIXELS_AT_ONCE, dim=1)
    return torch.cat([(some.float() / scale).var(dim=0) for some in pixels]).mean().item()
