"""What every data source yields: three splits of uint8 images, and the seeded cut that makes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentserve_training.errors import DataError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Images uint8 [n, channels, height, width] and, where the data has classes, labels int64 [n] and their names."""

    images: Images
    labels: Labels | None = None
    label_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.int64]) -> Split:
        """The rows at these indices, in their order."""
        return Split(self.images[rows], None if self.labels is None else self.labels[rows], self.label_names)


@dataclass(frozen=True)
class Dataset:
    """One dataset, cut once: `train` moves weights, `validation` chooses among them, `test` is only reported on."""

    name: str
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        for role, split in (("training", self.train), ("validation", self.validation), ("test", self.test)):
            if not len(split):
                raise DataError(f"data {self.name!r} leaves no {role} images; it needs more images or other fractions")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def label_names(self) -> tuple[str, ...]:
        """What label 0, 1, ... is called; empty where the data has no classes."""
        return self.train.label_names

    @property
    def sha256(self) -> str:
        """Digest, in hexadecimal, of the training images: their shape as text, then their pixels in C order."""
        digest = hashlib.sha256(repr(self.train.images.shape).encode())
        digest.update(self.train.images.tobytes())
        return digest.hexdigest()


def cut(pool: Split, fractions: tuple[float, ...], seed: int) -> list[Split]:
    """`pool` shuffled by `seed` and cut into one part a fraction (rounded to images), then all the rest."""
    order = np.random.default_rng(seed).permutation(len(pool))
    ends = np.cumsum([round(fraction * len(pool)) for fraction in fractions])
    return [pool.take(rows) for rows in np.split(order, ends)]
