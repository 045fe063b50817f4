"""Results of a model's calls: arrays and their timing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latentserve_server.batching.scheduling import Timing
from latentserve_server.latent.scores import Scores

Float32 = NDArray[np.float32]


class Decoded(NamedTuple):
    """Images [n, channels, height, width], float32 or uint8; `seed` where they were sampled.

    `labels` [n] where they were sampled from a conditional model.
    """

    images: NDArray[Any]
    timing: Timing
    seed: int | None = None
    labels: NDArray[np.int64] | None = None


class Encoded(NamedTuple):
    """What the encoder gives, [n, latent_dim] each, and the latents drawn from posteriors where that was asked for."""

    timing: Timing
    mean: Float32 | None = None
    log_variance: Float32 | None = None
    codes: NDArray[np.int64] | None = None
    z: Float32 | None = None
    seed: int | None = None

    @property
    def posterior(self) -> tuple[Float32, Float32]:
        """Means and log variances, of an encoder that gives them."""
        assert self.mean is not None
        assert self.log_variance is not None
        return self.mean, self.log_variance


class Reconstructed(NamedTuple):
    """Images [n, channels, height, width] and what each cost."""

    images: NDArray[Any]
    scores: Scores
    timing: Timing


class Scored(NamedTuple):
    """How well images are explained."""

    scores: Scores
    timing: Timing
