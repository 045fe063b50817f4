"""What calls work on: images, points of the latent space, and axes through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

ImagesLike: TypeAlias = NDArray[np.float32] | NDArray[np.float64] | NDArray[np.uint8] | Sequence[bytes]
"""Images to send: [n, channels, height, width] in the model's value range (float) or 0 to 255 (uint8), or n PNG,
JPEG, WebP, GIF or BMP files. float64 is converted to float32."""

LatentsLike: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
"""Latents to send: [n, latent_dim]. float64 is converted to float32."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """Latents drawn from the prior, one a seed: row 0 of each, as `sample` draws with first_index 0."""

    seeds: Sequence[int]


@dataclass(frozen=True, slots=True, eq=False)
class PosteriorMeans:
    """Latents of images: the mean of each posterior. The model must have an encoder.

    Attributes:
        images: an array or files, as encode takes them.
        resize: as encode's.
    """

    images: ImagesLike
    resize: bool = False


PointsLike: TypeAlias = LatentsLike | Seeds | PosteriorMeans
"""n points of the latent space: given as they are, drawn, or encoded."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One latent dimension, counted from 0, and the `steps` evenly spaced values it takes from low to high."""

    dimension: int
    low: float
    high: float
    steps: int
