"""Noise that a decoder takes beside its latents."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from latentserve_server.latent.noise import Draw, NoiseSource, Stream

_SEED_OF_GIVEN_LATENTS = 0


class NoiseInputs:
    """The noise inputs of one decoder, each of which has a stream of its own."""

    def __init__(self, noise: NoiseSource, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """`shapes` has the shape of one row of each by its name, in the order of the streams."""
        self._noise = noise
        self._shapes = shapes
        first = self.drawn(_SEED_OF_GIVEN_LATENTS, 0, 1)
        self._of_given_latents = {name: draw.rows() for name, draw in first.items()}

    def drawn(self, seed: int, first_index: int, count: int) -> dict[str, Draw]:
        """Those of a seed's rows, float32 [count, *shape], which are drawn when they are needed."""
        return {
            name: Draw(self._noise, math.prod(shape), seed, first_index, count, stream=stream, row_shape=shape)
            for stream, (name, shape) in enumerate(self._shapes.items(), Stream.INPUT)
        }

    def of_given_latents(self, count: int) -> dict[str, NDArray[np.float32]]:
        """Those of latents that are no seed's, float32 [count, *shape]: all alike, so that a latent is one image."""
        return {name: np.broadcast_to(row, (count, *row.shape[1:])) for name, row in self._of_given_latents.items()}
