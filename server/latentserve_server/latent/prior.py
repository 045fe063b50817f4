"""Priors: the standard normal, a Gaussian mixture and what a graph makes of noise, with temperature and truncation.

How the mixture is drawn with the noise of (seed, index) is part of the contract, and is specified, with test vectors,
in docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from latentserve.contract import TEMPERATURES, TRUNCATIONS
from latentserve_server.errors import InvalidArgument
from latentserve_server.latent.noise import NoiseSource, Stream

Float32 = NDArray[np.float32]

_ATTEMPTS = 16
"""How often truncated noise is drawn until all of it is inside, about: 2 times at 5, 30 times at 0.5."""

_UNIT = 2.0**-53


class Prior(Enum):
    """A distribution over latents."""

    STANDARD_NORMAL = "standard normal"
    MIXTURE = "mixture"
    GRAPH = "graph"
    """What the model's prior graph makes of N(0, I)."""


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


AS_THEY_ARE: Mapping[Prior, SamplingSpec] = MappingProxyType({prior: SamplingSpec(prior) for prior in Prior})
"""What draws from each prior with nothing done to its noise."""

STANDARD_NORMAL = AS_THEY_ARE[Prior.STANDARD_NORMAL]


@dataclass(frozen=True, eq=False)
class Mixture:
    """A Gaussian mixture of k components: the sum of weight c times N(means[c], factors[c] factors[c]^T)."""

    weights: NDArray[np.float64]
    """[k], positive, with sum 1."""
    means: Float32
    """[k, d]."""
    factors: Float32
    """[k, d, d], lower triangular, with positive diagonals."""

    def choose(self, words: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The component of each row, [n], from one word each."""
        uniform = (words >> np.uint64(11)).astype(np.float64) * _UNIT
        # The last sum is left out: rounded, it may lie below 1, and a word above it would have no component.
        return np.searchsorted(np.cumsum(self.weights)[:-1], uniform, side="right")

    def place(self, components: NDArray[np.intp], noise: Float32) -> Float32:
        """means[c] + factors[c] noise for every row, float32 [n, d], where c is the row's component.

        A row's bits depend on its component and its noise alone. A product of matrices would not do: the order of its
        sums, and so their rounding, changes with the number of rows and the processor.
        """
        latents = np.empty_like(noise)
        for component in np.unique(components):
            rows = np.flatnonzero(components == component)
            latents[rows] = _place(self.means[component], self.factors[component], noise[rows])
        return latents


@dataclass(frozen=True, eq=False)
class PriorSource:
    """Draws latents of one model from its priors, from any thread."""

    noise: NoiseSource
    dim: int
    mixture: Mixture | None
    """None where the model has none."""

    def work_bytes(self, count: int, sampling: SamplingSpec) -> int:
        """How much data sampling so many rows goes over, in bytes, about."""
        factors = self.dim if sampling.prior is Prior.MIXTURE else 1
        attempts = _ATTEMPTS if sampling.shaping.truncation is not None else 1
        return 4 * count * self.dim * max(factors, attempts)

    def shaped(self, sampling: SamplingSpec) -> ShapedPrior:
        """Its latents as they are to be drawn."""
        return ShapedPrior(self, sampling)

    def draw(self, seed: int, first_index: int, count: int, sampling: SamplingSpec = STANDARD_NORMAL) -> Float32:
        """Latents `first_index` to `first_index + count - 1` of the seed, float32 [count, dim].

        The prior is one that the model has, and no graph.
        """
        noise = self.noise.draw(seed, first_index, count, self.dim, Stream.PRIOR)
        return self.from_noise(noise, seed, first_index, sampling)

    def from_noise(self, noise: Float32, seed: int, first_index: int, sampling: SamplingSpec) -> Float32:
        """The latents that `draw` gives, from the noise [count, dim] that N(0, I) alone would be."""
        bound, temperature = sampling.shaping.truncation, sampling.shaping.temperature
        if bound is not None:
            noise = self.noise.truncate(noise, seed, first_index, Stream.PRIOR, bound)
        if temperature != 1:
            noise = noise * np.float32(temperature)
        if sampling.prior is Prior.STANDARD_NORMAL:
            return noise
        assert self.mixture is not None
        words = self.noise.words(seed, first_index, len(noise), Stream.COMPONENT)
        return self.mixture.place(self.mixture.choose(words), noise)

    def draw_firsts(self, seeds: Sequence[int], sampling: SamplingSpec = STANDARD_NORMAL) -> Float32:
        """Latent 0 of each seed, float32 [n, dim]; as `draw`."""
        return np.concatenate([self.draw(seed, 0, 1, sampling) for seed in seeds])


@dataclass(frozen=True, slots=True)
class ShapedPrior:
    """Latents of one model as a call wants them drawn."""

    prior: PriorSource
    sampling: SamplingSpec

    def from_noise(self, noise: Float32, seed: int, first_index: int) -> Float32:
        """As `PriorSource.from_noise`."""
        return self.prior.from_noise(noise, seed, first_index, self.sampling)

    def work_bytes(self, count: int) -> int:
        """As `PriorSource.work_bytes`."""
        return self.prior.work_bytes(count, self.sampling)


def _place(mean: Float32, factor: Float32, noise: Float32) -> Float32:
    """mean + factor noise for every row of noise [n, d]: column by column, each product and each sum rounded."""
    columns, values_of_noise = np.ascontiguousarray(factor.T), np.ascontiguousarray(noise.T)
    values = np.repeat(mean[:, np.newaxis], len(noise), axis=1)
    products = np.empty_like(values)
    for j in range(len(mean)):
        np.multiply(columns[j, j:, np.newaxis], values_of_noise[j], out=products[j:])
        values[j:] += products[j:]
    return values.T
