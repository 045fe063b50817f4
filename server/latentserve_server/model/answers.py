"""What a model's calls give back: arrays, and the time they took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_server.batching.entry import Outcome
from latentserve_server.latent.scores import Scores

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Spent:
    """Time a call waited for the engine and had it, in nanoseconds, and the rows of its largest batch."""

    queue_ns: int = 0
    compute_ns: int = 0
    batch_rows: int = 0

    def __add__(self, other: Spent) -> Spent:
        """One after the other."""
        return Spent(
            self.queue_ns + other.queue_ns,
            self.compute_ns + other.compute_ns,
            max(self.batch_rows, other.batch_rows),
        )

    @classmethod
    def of(cls, outcome: Outcome) -> Spent:
        """What the batcher says."""
        return cls(outcome.queue_ns, outcome.compute_ns, outcome.batch_rows)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Images [n, channels, height, width], float32 or uint8; `seed` where they were sampled.

    `labels` [n] where they were sampled from a conditional model.
    """

    images: NDArray[Any]
    spent: Spent
    seed: int | None = None
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """Posterior parameters [n, latent_dim], and the latents drawn from them where that was asked for."""

    mean: Float32
    log_variance: Float32
    spent: Spent
    z: Float32 | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Reconstructed:
    """Images [n, channels, height, width] and what each cost, in nats [n]."""

    images: NDArray[Any]
    reconstruction_error: Float32
    kl: Float32
    spent: Spent


@dataclass(frozen=True, slots=True)
class Scored:
    """How well images are explained."""

    scores: Scores
    spent: Spent
