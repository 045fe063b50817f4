"""The training objective of a VAE: KL weight, warm-up, free bits, and draws per image."""

from __future__ import annotations

from dataclasses import dataclass

from latentserve_training.errors import ConfigError
from latentserve_training.models.checks import require_not_negative


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a VAE minimises. Validation always reports the plain -ELBO as well."""

    beta: float = 1.0
    """Weight of the KL term (Higgins et al. 2017); 1 is the ELBO."""

    warm_up_epochs: float = 0.0
    """Epochs in which the KL term's weight grows from 0 to beta, in proportion; 0 starts with beta."""

    free_bits: float = 0.0
    """Nats a latent, averaged over a batch, below which its KL term is not reduced further; 0 reduces all."""

    draws: int = 1
    """Latents drawn for each image: 1 minimises the -ELBO, more the importance-weighted bound (Burda et al. 2015)."""

    def __post_init__(self) -> None:
        require_not_negative("model.objective", self, "beta", "warm_up_epochs", "free_bits")
        if self.draws < 1:
            raise ConfigError(f"model.objective.draws is {self.draws}; it must be at least 1")
        if self.draws > 1 and self.free_bits:
            raise ConfigError(
                f"model.objective.free_bits is {self.free_bits}, but the bound of model.objective.draws {self.draws} "
                "has no KL term a latent; set one of them to its default"
            )
        if self.draws > 1 and self.beta != 1:
            raise ConfigError(
                f"model.objective.beta is {self.beta}, but what model.objective.draws {self.draws} descends bounds "
                "-log p(x) only with a beta of 1; set one of them to its default"
            )

    @property
    def selection(self) -> str:
        """The validation result that selects the best epoch: the objective after warm-up, without free bits."""
        if self.draws > 1:
            return "importance_bound_nats"
        return "negative_elbo_nats" if self.beta == 1 else "weighted_elbo_nats"

    def weight(self, epoch: float) -> float:
        """The KL term's weight after `epoch` epochs."""
        return self.beta * min(1.0, epoch / self.warm_up_epochs) if self.warm_up_epochs else self.beta
