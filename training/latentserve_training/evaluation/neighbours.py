"""The nearest training images of every sample, which show whether a model memorised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from tqdm import tqdm

_ROWS = 250
_VALUES_AT_ONCE = 2**24
"""Values of training images that are float32 at once."""


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
        parts = torch.split(images.flatten(1).float() / 255, _ROWS)
        found = [cls(torch.empty(len(part), 0, dtype=torch.int64), torch.empty(len(part), 0)) for part in parts]
        step = max(1, _VALUES_AT_ONCE // training[0].numel())
        for start in tqdm(range(0, len(training), step), desc="nearest neighbours", leave=False, disable=None):
            pool = training[start : start + step].flatten(1).float() / 255
            found = [
                near.joined_by(torch.cdist(part, pool), start, count) for near, part in zip(found, parts, strict=True)
            ]
        return cls(torch.cat([near.rows for near in found]), torch.cat([near.distances for near in found])).exact(
            images, training
        )

    def joined_by(self, distances: Tensor, start: int, count: int) -> Self:
        """The `count` nearest among these and others at `distances` [n, others], whose indices begin at `start`."""
        near, rows = distances.topk(min(count, distances.shape[1]), largest=False)
        both, order = torch.cat((self.distances, near), dim=1).sort(dim=1, stable=True)
        kept = torch.cat((self.rows, start + rows), dim=1).gather(1, order)
        return type(self)(kept[:, :count], both[:, :count])

    def exact(self, images: Tensor, training: Tensor) -> Self:
        """The same, with exact distances: matrix products do not give 0 for an image and itself."""
        distances = torch.stack(
            [
                ((training[rows].float() - image.float()) / 255).flatten(1).norm(dim=1)
                for image, rows in zip(images, self.rows, strict=True)
            ]
        )
        sorted_distances, order = distances.sort(dim=1, stable=True)
        return type(self)(self.rows.gather(1, order), sorted_distances)
