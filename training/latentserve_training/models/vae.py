"""What every variational autoencoder shares: the evidence lower bound, its step and its validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from latentserve_training.losses import bernoulli_nll, binarize, gaussian_kl, reparameterize
from latentserve_training.models.model import GenerativeModel, ImageShape, Phase

_VALIDATION_ROWS = 250
_ACTIVE_VARIANCE = 0.01


class Posterior(NamedTuple):
    """q(z|x) = N(mean, diag(exp(log_variance))); both are float32 [batch, latent_dim]."""

    mean: Tensor
    log_variance: Tensor


class Vae(GenerativeModel):
    """A VAE with a Gaussian posterior and a Bernoulli likelihood over pixels.

    It is trained on dynamically binarised images: x ~ Bernoulli(pixel / 255), drawn afresh whenever an image is seen,
    is both what the encoder reads and what the decoder has to explain, so that the ELBO bounds a true log-likelihood.

    `encoder` maps images to [batch, 2 * latent_dim], means then log-variances; `decoder` maps latents to logits
    [batch, channels, height, width].
    """

    selection: ClassVar[str | None] = "negative_elbo_nats"

    def __init__(
        self, *, image_shape: ImageShape, latent_dim: int, encoder: nn.Module, decoder: nn.Module, learning_rate: float
    ) -> None:
        super().__init__(image_shape=image_shape, latent_dim=latent_dim)
        self.encoder = encoder
        self.decoder = decoder
        self.learning_rate = learning_rate

    def encode(self, images: Tensor) -> Posterior:
        """The posterior of images [batch, channels, height, width] in [0, 1]."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return Posterior(mean, log_variance)

    def decode_logits(self, latents: Tensor) -> Tensor:
        """Logits of the pixels' probabilities."""
        logits: Tensor = self.decoder(latents)
        return logits

    def decode(self, latents: Tensor) -> Tensor:
        """The mean of p(x|z)."""
        return self.decode_logits(latents).sigmoid()

    def negative_elbo(self, binary: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction and KL terms (nats, [batch]) and posterior means of binary images, at one draw of z each.

        -ELBO(x) = E_q(z|x)[-log p(x|z)] + KL(q(z|x) || N(0, I)).
        """
        posterior = self.encode(binary)
        logits = self.decode_logits(reparameterize(*posterior, generator=generator))
        return bernoulli_nll(logits, binary), gaussian_kl(*posterior), posterior.mean

    def phases(self) -> list[Phase]:
        """One phase: Adam on the mean -ELBO."""
        return [Phase("elbo", torch.optim.Adam(self.parameters(), lr=self.learning_rate), self._loss)]

    def _loss(self, images: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        reconstruction, kl, _ = self.negative_elbo(binarize(images))
        loss = (reconstruction + kl).mean()
        return loss, {
            "negative_elbo_nats": loss, "reconstruction_nats": reconstruction.mean(), "kl_nats": kl.mean()
        }  # fmt: skip

    @torch.no_grad()
    def validate(self, images: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Mean -ELBO and its terms in nats, one binarisation and one z an image, and the number of active units.

        A latent is active when its posterior mean varies with the image: Var_x(E_q[z]) > 0.01 (Burda et al. 2015,
        arXiv:1509.00519, section 5).
        """
        parts = [
            self.negative_elbo(binarize(rows.float() / 255, generator), generator)
            for rows in torch.split(images, _VALIDATION_ROWS)
        ]
        reconstruction, kl, means = (torch.cat(column).double() for column in zip(*parts, strict=True))
        return {
            "negative_elbo_nats": (reconstruction + kl).mean().item(),
            "reconstruction_nats": reconstruction.mean().item(),
            "kl_nats": kl.mean().item(),
            "active_units": float((means.var(dim=0) > _ACTIVE_VARIANCE).sum().item()),
        }
