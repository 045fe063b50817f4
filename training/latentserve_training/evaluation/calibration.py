"""Quantiles of ordinary images' scores, against which a served score is ranked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from torch import Tensor

from latentserve.contract import CALIBRATION_QUANTILES
from latentserve_training.errors import RunError


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The quantiles of -ELBO at the posterior mean over images that neither training nor the choice of weights saw."""

    negative_elbo_quantiles: list[float]
    """The 0 %, 1 %, ..., 100 % quantiles in nats; 101 values that never fall."""
    images: int
    """Number of images."""

    @classmethod
    def of(cls, negative_elbo: Tensor) -> Self:
        """The calibration by scores [n] in nats; quantiles are interpolated linearly between neighbours."""
        quantiles = np.quantile(negative_elbo.double().numpy(), np.linspace(0, 1, CALIBRATION_QUANTILES))
        # Interpolation can round a value below its neighbour's.
        return cls(negative_elbo_quantiles=np.maximum.accumulate(quantiles).tolist(), images=len(negative_elbo))

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
