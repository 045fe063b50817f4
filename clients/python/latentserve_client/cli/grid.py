"""Many small images drawn as one picture. Knows pixels, not files and not the server."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SEPARATOR = 2
"""Pixels around every cell of a grid."""

_BORDER = 160
_PAIR_LINE = 96


def draw_grid(images: NDArray[np.uint8], columns: int | None = None) -> Image.Image:
    """`images`, uint8 [n, 1 or 3, height, width], in reading order on a grid of so many columns, else near-square."""
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    rows = math.ceil(count / columns)
    down, across = height + SEPARATOR, width + SEPARATOR
    canvas = np.full((rows * down + SEPARATOR, columns * across + SEPARATOR, channels), _BORDER, np.uint8)
    for index, image in enumerate(images):
        top = SEPARATOR + index // columns * down
        left = SEPARATOR + index % columns * across
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)


def draw_pairs(originals: NDArray[np.uint8], reconstructions: NDArray[np.uint8]) -> Image.Image:
    """A grid whose cells are an original above its reconstruction, a dark line between; both as draw_grid's images."""
    count, channels, _, width = originals.shape
    line = np.full((count, channels, 1, width), _PAIR_LINE, np.uint8)
    return draw_grid(np.concatenate([originals, line, reconstructions], axis=2))
