"""The base class of all VAEs, with its settings: the evidence lower bound and validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from latentserve_training.models.bits import bits_per_dim
from latentserve_training.models.checks import require_positive
from latentserve_training.models.likelihood import LikelihoodName, PixelParameters, build_likelihood
from latentserve_training.models.losses import free_bits_kl, gaussian_kl, importance_bound, log_prior_ratio
from latentserve_training.models.model import Batch, GenerativeModel, ImageShape, Phase, Validation
from latentserve_training.models.objective import Objective
from latentserve_training.models.random_draws import reparameterize

_VALIDATION_ROWS = 250
_ACTIVE_VARIANCE = 0.01
_COLLAPSED_SHARE = 0.1
_ENOUGH_ACTIVE = 10
"""This many active latents are never a collapse, however many latents the model has."""


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """The settings of every VAE."""

    learning_rate: float = 1e-3
    """Adam's step size."""

    likelihood: LikelihoodName = "bernoulli"
    """Likelihood of pixels: bernoulli for binarised images, gaussian or discretized_logistic for grey or colour."""

    objective: Objective = field(default_factory=Objective)
    """The training objective."""

    def __post_init__(self) -> None:
        require_positive(self, "learning_rate")


class Posterior(NamedTuple):
    """q(z|x) = N(mean, diag(exp(log_variance))); both are float32 [batch, latent_dim]."""

    mean: Tensor
    log_variance: Tensor


class Vae(GenerativeModel):
    """A VAE with a Gaussian posterior.

    `encoder` maps images to [batch, 2 * latent_dim], means then log-variances; `decoder` maps latents to logits
    [batch, channels, height, width]. With a `label_count`, both take labels as their second argument.

    With a Bernoulli likelihood it is trained on dynamically binarised images: x ~ Bernoulli(pixel / 255), drawn afresh
    whenever an image is seen, is both what the encoder reads and what the decoder has to explain, so that the ELBO
    bounds a true log-likelihood. With another likelihood, x is the image itself.
    """

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        latent_dim: int,
        encoder: nn.Module,
        decoder: nn.Module,
        learning_rate: float,
        likelihood: LikelihoodName = "bernoulli",
        objective: Objective | None = None,
        latent_shape: tuple[int, ...] | None = None,
        label_count: int = 0,
    ) -> None:
        super().__init__(
            image_shape=image_shape, latent_dim=latent_dim, latent_shape=latent_shape, label_count=label_count
        )
        self.encoder = encoder
        self.decoder = decoder
        self.learning_rate = learning_rate
        self.likelihood = build_likelihood(likelihood, image_shape)
        self.objective = objective or Objective()
        self.selection = self.objective.selection

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Posterior:
        """The posterior of images [batch, channels, height, width] in [0, 1]."""
        mean, log_variance = self._run(self.encoder, images, labels).chunk(2, dim=1)
        return Posterior(mean, log_variance)

    def decode_logits(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits of the mean of p(x|z)."""
        return self._run(self.decoder, latents, labels)

    def decode_parameters(self, latents: Tensor, labels: Tensor | None = None) -> PixelParameters:
        """p(x|z), as `likelihood.nll` takes it."""
        return self.likelihood.parameters_of(self.decode_logits(latents, labels))

    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean of p(x|z)."""
        return self.decode_logits(latents, labels).sigmoid()

    def _elbo_terms(
        self, x: Tensor, generator: torch.Generator | None, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction terms [batch], KL terms [batch, latent_dim] (nats) and posterior means of x, at one draw of z.

        -ELBO(x) = E_q(z|x)[-log p(x|z)] + KL(q(z|x) || N(0, I)).
        """
        posterior = self.encode(x, labels)
        parameters = self.decode_parameters(reparameterize(*posterior, generator=generator), labels)
        return self.likelihood.nll(parameters, x), gaussian_kl(*posterior), posterior.mean

    def phases(self) -> list[Phase]:
        """One phase: Adam on the objective."""
        loss = self._loss if self.objective.draws == 1 else self._importance_loss
        return [Phase("elbo", torch.optim.Adam(self.parameters(), lr=self.learning_rate, fused=True), loss)]

    def _loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        reconstruction, kl_terms, _ = self._elbo_terms(self.likelihood.observe(batch.images), None, batch.labels)
        kl = kl_terms.sum(1)
        weight, least = self.objective.weight(batch.epoch), self.objective.free_bits
        pressed = free_bits_kl(kl_terms, least) if least else kl
        return (reconstruction + weight * pressed).mean(), _logged(reconstruction, kl)

    def _importance_loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        nll, ratio, posterior = self._importance_terms(self.likelihood.observe(batch.images), None, batch.labels)
        loss = importance_bound(self.objective.weight(batch.epoch) * ratio - nll).mean()
        bound = importance_bound((ratio - nll).detach()).mean()
        return loss, {"importance_bound_nats": bound, **_logged(nll, gaussian_kl(*posterior).sum(1))}

    def _importance_terms(
        self, x: Tensor, generator: torch.Generator | None, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Posterior]:
        """-log p(x|z) and log p(z) / q(z|x), [batch, draws] in nats, and the posterior of x."""
        posterior, draws = self.encode(x, labels), self.objective.draws
        each = Posterior(*(part.repeat_interleave(draws, dim=0) for part in posterior))
        latents = reparameterize(*each, generator=generator)
        asked = None if labels is None else labels.repeat_interleave(draws, dim=0)
        nll = self.likelihood.nll(self.decode_parameters(latents, asked), x.repeat_interleave(draws, dim=0))
        return nll.view(-1, draws), log_prior_ratio(latents, *each).view(-1, draws), posterior

    @torch.no_grad()
    def validate(self, images: Tensor, generator: torch.Generator, labels: Tensor | None = None) -> Validation:
        """Mean -ELBO and its terms in nats, one observation and one z an image, and what the latents are used for.

        `kl_nats_by_latent` is each latent's KL, averaged over the images; `latent_kl_…` are over them. The -ELBO of
        stored levels is there in bits a dimension, too. If training minimises something else, that is included: the
        -ELBO with its KL term weighted by beta, or the importance-weighted bound of a fresh observation.
        """
        parts = []
        for start in range(0, len(images), _VALIDATION_ROWS):
            rows = slice(start, start + _VALIDATION_ROWS)
            x, asked = self._observed(images, labels, rows, generator)
            parts.append(self._elbo_terms(x, generator, asked))
        reconstruction, kl_terms, means = (torch.cat(column).double() for column in zip(*parts, strict=True))
        kl_of_latents = kl_terms.mean(0)
        results = {
            "negative_elbo_nats": (reconstruction.mean() + kl_of_latents.sum()).item(),
            "reconstruction_nats": reconstruction.mean().item(),
            "kl_nats": kl_of_latents.sum().item(),
            "latent_kl_median_nats": kl_of_latents.median().item(),
            "latent_kl_max_nats": kl_of_latents.max().item(),
            "active_units": float(active_latents(means).sum().item()),
        }
        if self.likelihood.level_width == 1:  # a probability of the images as they are; a density would need noise
            results["negative_elbo_bits_per_dim"] = bits_per_dim(results["negative_elbo_nats"], images[0].numel())
        if self.selection == "weighted_elbo_nats":
            results["weighted_elbo_nats"] = results["reconstruction_nats"] + self.objective.beta * results["kl_nats"]
        if self.selection == "importance_bound_nats":
            results["importance_bound_nats"] = self._mean_bound(images, generator, labels)
        return Validation(results, {"kl_nats_by_latent": kl_of_latents.tolist()})

    def _mean_bound(self, images: Tensor, generator: torch.Generator, labels: Tensor | None) -> float:
        bounds = []
        step = max(1, _VALIDATION_ROWS // self.objective.draws)
        for rows in (slice(start, start + step) for start in range(0, len(images), step)):
            x, asked = self._observed(images, labels, rows, generator)
            nll, ratio, _ = self._importance_terms(x, generator, asked)
            bounds.append(importance_bound(ratio - nll))
        return torch.cat(bounds).double().mean().item()

    def _observed(
        self, images: Tensor, labels: Tensor | None, rows: slice, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """An observation of the images uint8 in `rows`, and their labels, on the generator's device."""
        x = self.likelihood.observe(images[rows].to(generator.device).float() / 255, generator)
        return x, None if labels is None else labels[rows].to(generator.device)

    def diagnose(self, results: Mapping[str, float], step: int) -> list[str]:
        """Warnings if the posterior has collapsed, that is, if hardly any latent depends on the image."""
        active = int(results["active_units"])
        if active >= min(_COLLAPSED_SHARE * self.latent_dim, _ENOUGH_ACTIVE):
            return []
        return [
            f"posterior collapse at step {step}: {active} of {self.latent_dim} latents are active; "
            "try model.objective.warm_up_epochs, model.objective.free_bits or a smaller model.objective.beta"
        ]


def active_latents(means: Tensor) -> Tensor:
    """Which latents depend on the image, bool [latent_dim], judged by posterior means [n, latent_dim].

    Those whose mean varies with the image, Var_x(E_q[z]) > 0.01 (Burda et al. 2015, arXiv:1509.00519, section 5).
    """
    return means.double().var(dim=0) > _ACTIVE_VARIANCE


def _logged(reconstruction: Tensor, kl: Tensor) -> dict[str, Tensor]:
    """The plain -ELBO and its terms, in nats, whatever the objective."""
    mean, kl_mean = reconstruction.mean(), kl.mean()
    return {"negative_elbo_nats": mean + kl_mean, "reconstruction_nats": mean, "kl_nats": kl_mean}
