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
    """Posterior parameters [n, latent_dim], and the latents drawn from them where that was asked for."""

    mean: Float32
    log_variance: Float32
    timing: Timing
    z: Float32 | None = None
    seed: int | None = None


class Reconstructed(NamedTuple):
    """Images [n, channels, height, width] and what each cost, in nats [n]."""

    images: NDArray[Any]
    reconstruction_error: Float32
    kl: Float32
    timing: Timing


class Scored(NamedTuple):
    """How well images are explained."""

    scores: Scores
    timing: Timing
