"""Arguments of calls: images, points of the latent space, axes through it, and choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

ImagesLike: TypeAlias = NDArray[np.float32] | NDArray[np.float64] | NDArray[np.uint8] | Sequence[bytes]
"""Images to send: [n, channels, height, width] in the model's value range (float) or 0 to 255 (uint8), or n PNG,
JPEG, WebP, GIF or BMP files. float64 is converted to float32."""

LatentsLike: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
"""Latents to send: [n, *latent_shape], or rows of their values [n, latent_dim]. float64 is converted to float32."""

CodesLike: TypeAlias = NDArray[np.signedinteger[Any]]
"""Codes to send to a vector-quantised autoencoder, from 0: [n, *latent_shape] or [n, latent_dim]. They are converted to
int64."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """Latents drawn from the model's default prior, one a seed: row 0 of each, as `sample` draws with first_index 0."""

    seeds: Sequence[int]


@dataclass(frozen=True, slots=True, eq=False)
class PosteriorMeans:
    """Latents of images: the mean of each posterior, or an autoencoder's latents. The model must have an encoder.

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
    """One latent dimension, counted from 0, and the `steps` evenly spaced values it takes from low to high.

    Where latents have a shape, dimensions are counted in their row of values: the last side varies fastest.
    """

    dimension: int
    low: float
    high: float
    steps: int


ArrayFormat: TypeAlias = Literal["float32", "float16", "uint8"]
FileFormat: TypeAlias = Literal["png", "jpeg", "webp"]
Format: TypeAlias = ArrayFormat | FileFormat
"""How images come back: as one array [n, channels, height, width], float in the model's value range or uint8 from 0 to
255; or as files, one an image: PNG, JPEG at quality 90, or lossless WebP."""

Priority: TypeAlias = Literal["interactive", "bulk"]
"""Priority: "bulk" gets whole batches when nothing interactive waits, else a quarter."""

Prior: TypeAlias = Literal["standard_normal", "mixture", "graph"]
"""What samples are drawn from: the standard normal prior, a mixture fitted on the encoded training images, or what the
bundle's prior graph makes of noise."""

LabelsLike: TypeAlias = int | Sequence[int] | NDArray[np.integer[Any]]
"""Labels of a conditional model, from 0: one for all rows, or one for each. Of samples: any number, given to indices in
turn."""
