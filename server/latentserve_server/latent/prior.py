"""Priors: latents of (seed, index), with temperature and truncation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from latentserve.contract import MAX_INDEX, TEMPERATURES, TRUNCATIONS
from latentserve_server.errors import CapabilityMissing, InvalidArgument
from latentserve_server.latent.mixture import Mixture
from latentserve_server.latent.noise import NoiseSource, Stream

Float32 = NDArray[np.float32]

_ATTEMPTS = 16
"""How often truncated noise is drawn until all of it is inside, about: 2 times at 5, 30 times at 0.5."""


class Prior(Enum):
    """A distribution over latents."""

    STANDARD_NORMAL = "standard normal"
    MIXTURE = "mixture"


@dataclass(frozen=True, slots=True)
class NoiseTransform:
    """What is done to noise before it is decoded: cut off at +-`truncation`, then multiplied by `temperature`."""

    temperature: float = 1.0
    truncation: float | None = None

    def __post_init__(self) -> None:
        """Check the bounds of the contract.

        Raises:
            InvalidArgument: a value is out of bounds, or not a number.
        """
        if not TEMPERATURES[0] <= self.temperature <= TEMPERATURES[1]:
            raise InvalidArgument("shaping.temperature", f"{np.float32(self.temperature)!s}; 0 to 4 are allowed")
        if self.truncation is not None and not TRUNCATIONS[0] <= self.truncation <= TRUNCATIONS[1]:
            raise InvalidArgument("shaping.truncation", f"{np.float32(self.truncation)!s}; 0.5 to 8 are allowed")


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """What latents are drawn from, and how."""

    prior: Prior = Prior.STANDARD_NORMAL
    shaping: NoiseTransform = NoiseTransform()


STANDARD_NORMAL = SamplingSpec()
"""The standard normal prior, as it is."""


def check_indices(field: str, first_index: int, count: int) -> None:
    """Hold noise indices to the bound of the scheme.

    Raises:
        InvalidArgument: the last index is beyond it.
    """
    if first_index + count > MAX_INDEX:
        raise InvalidArgument(field, f"{first_index} + {count} rows is over 2^48")


class PriorSource:
    """Draws latents of one model from its priors, from any thread."""

    def __init__(self, noise: NoiseSource, dim: int, mixture: Mixture | None) -> None:
        self._noise = noise
        self._dim = dim
        self._mixture = mixture

    def check(self, prior: Prior) -> None:
        """Make sure that the model has the prior.

        Raises:
            CapabilityMissing: it has not.
        """
        if prior is Prior.MIXTURE and self._mixture is None:
            raise CapabilityMissing("prior: the model's bundle carries no mixture")

    def work_bytes(self, count: int, sampling: SamplingSpec) -> int:
        """How much data sampling so many rows goes over, in bytes, about."""
        factors = self._dim if sampling.prior is Prior.MIXTURE else 1
        attempts = _ATTEMPTS if sampling.shaping.truncation is not None else 1
        return 4 * count * self._dim * max(factors, attempts)

    def draw(self, seed: int, first_index: int, count: int, sampling: SamplingSpec = STANDARD_NORMAL) -> Float32:
        """Latents `first_index` to `first_index + count - 1` of the seed, float32 [count, dim].

        The prior is one that `check` lets pass.
        """
        where = seed, first_index, count, self._dim, Stream.PRIOR
        bound, temperature = sampling.shaping.truncation, sampling.shaping.temperature
        noise = self._noise.draw(*where) if bound is None else self._noise.draw_truncated(*where, bound)
        if temperature != 1:
            noise = noise * np.float32(temperature)
        if sampling.prior is Prior.STANDARD_NORMAL:
            return noise
        assert self._mixture is not None
        words = self._noise.words(seed, first_index, count, Stream.COMPONENT)
        return self._mixture.place(self._mixture.choose(words), noise)
