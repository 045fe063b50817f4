"""Whether a model repeats its training images: every image's distance to the nearest of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from tqdm import tqdm

_ROWS = 250


@dataclass(frozen=True)
class Neighbours:
    """The training images nearest to some others, nearest first."""

    rows: Tensor
    """Their indices, int64 [n, k]."""
    distances: Tensor
    """Their Euclidean distances over pixels in [0, 1], float32 [n, k]."""

    @classmethod
    def of(cls, images: Tensor, training: Tensor, count: int = 1) -> Self:
        """The `count` nearest of the training images uint8 [m, ...] to each of the images uint8 [n, ...]."""
        pool = training.flatten(1).float() / 255
        found = [
            torch.cdist(part.flatten(1).float() / 255, pool).topk(count, largest=False)
            for part in tqdm(torch.split(images, _ROWS), desc="nearest neighbours", leave=False, disable=None)
        ]
        return cls(torch.cat([part.indices for part in found]), torch.cat([part.values for part in found]))
