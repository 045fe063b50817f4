"""The shape of latents: rows of `dim` values for graphs, noise and walks; [n, *shape] for callers."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

Shape = tuple[int, ...]


def forms(shape: Shape) -> tuple[Shape, ...]:
    """The shapes in which callers may send one latent: its own, and a row of its values."""
    row = (math.prod(shape),)
    return (shape,) if shape == row else (shape, row)


def named(rows: tuple[Shape, ...]) -> str:
    """The shapes of n rows as errors name them, such as "[n, 4, 8, 8] or [n, 256]"."""
    return " or ".join(f"[{', '.join(('n', *map(str, row)))}]" for row in rows)


def flattened(latents: NDArray[Any]) -> NDArray[Any]:
    """Latents [n, *shape] as rows [n, dim], in row-major order."""
    return latents.reshape(len(latents), -1)


def shaped(rows: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Rows [n, dim] as latents [n, *shape]."""
    return rows.reshape(len(rows), *shape)
