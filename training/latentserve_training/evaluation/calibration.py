"""What ordinary images give: quantiles of scores, against which a served one is ranked, and where they are encoded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from torch import Tensor

from latentserve.contract import CALIBRATION_QUANTILES
from latentserve_training.errors import RunError

_MOST_LATENTS = 4096
"""A manifest is to stay small."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What images give that neither training nor the choice of weights saw, each scored at its posterior mean."""

    negative_elbo_quantiles: list[float]
    """The 0 %, 1 %, ..., 100 % quantiles of -ELBO in nats; 101 values that never fall."""
    images: int
    """Number of images."""
    latent_means: list[float] = field(default_factory=list)
    """The posterior means on the mean, one value a latent; none of more than 4,096 latents."""
    latent_variances: list[float] = field(default_factory=list)
    """Their variances."""

    @classmethod
    def of(cls, negative_elbo: Tensor, posterior_means: Tensor) -> Self:
        """The calibration by scores [n] in nats and posterior means [n, dim].

        Quantiles are interpolated linearly between neighbours.
        """
        quantiles = np.quantile(negative_elbo.double().numpy(), np.linspace(0, 1, CALIBRATION_QUANTILES))
        # Interpolation can round a value below its neighbour's.
        means = posterior_means.double().numpy()[:, : None if posterior_means.shape[1] <= _MOST_LATENTS else 0]
        return cls(
            negative_elbo_quantiles=np.maximum.accumulate(quantiles).tolist(),
            images=len(negative_elbo),
            latent_means=means.mean(axis=0).tolist(),
            latent_variances=means.var(axis=0).tolist(),
        )

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """The calibration in `path`.

        Raises:
            RunError: the file is not one that `save` wrote.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{path}: not a calibration; run latentserve-evaluate again") from error
