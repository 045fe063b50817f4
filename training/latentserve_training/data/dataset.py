"""A dataset: uint8 images in training, validation and test splits, cut by a seed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from latentserve_training.errors import DataError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

LEAST_IMAGES = 4
"""The fewest images in a split: precision and recall take an image and its three nearest neighbours."""


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
    """One dataset in three splits: `train` fits weights, `validation` selects them, `test` is only reported on.

    Raises:
        DataError: a split has too few images to be measured, or nothing but the same image.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    remarks: tuple[str, ...] = ()
    """Lines that tell the user how the data was read."""

    def __post_init__(self) -> None:
        splits = {"training": self.train, "validation": self.validation, "test": self.test}
        total = sum(map(len, splits.values()))
        if total < len(splits) * LEAST_IMAGES:
            raise DataError(
                f"data {self.name!r} has {total} of the {len(splits) * LEAST_IMAGES} images that are needed at least, "
                f"{LEAST_IMAGES} each for training, validation and test"
            )
        for role, split in splits.items():
            if len(split) < LEAST_IMAGES:
                fractions = "data.validation_fraction and data.test_fraction"
                enough = f"{math.ceil(100 * LEAST_IMAGES / total) / 100:g}"
                remedy = f"lower {fractions}" if split is self.train else f"raise data.{role}_fraction to {enough}"
                raise DataError(
                    f"data {self.name!r} of {total} images leaves {len(split)} for {role}, but at least {LEAST_IMAGES} "
                    f"are needed; {remedy}, or add images"
                )
            if np.array_equal(split.images.min(axis=0), split.images.max(axis=0)):
                raise DataError(f"data {self.name!r}: the {len(split)} {role} images are all the same")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of labels 0, 1, ...; empty if the data has no classes."""
        return self.train.label_names

    @cached_property
    def sha256(self) -> str:
        """Digest, in hexadecimal, of the training images: their shape as text, then their pixels in C order."""
        return _sha256(self.train.images)

    @cached_property
    def held_out_sha256(self) -> str:
        """Digest, in hexadecimal, of the validation images, then the test images, each as the training images'."""
        return _sha256(self.validation.images, self.test.images)

    @cached_property
    def labels_sha256(self) -> str:
        """Digest, in hexadecimal, of the labels of the three splits, likewise; empty where the data has no classes."""
        labels = [split.labels for split in (self.train, self.validation, self.test) if split.labels is not None]
        return _sha256(*labels) if labels else ""


def _sha256(*arrays: NDArray[np.uint8] | NDArray[np.int64]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).data)
    return digest.hexdigest()


def cut(count: int, fractions: tuple[float, ...], seed: int) -> list[NDArray[np.int64]]:
    """The rows of `count` images, shuffled by `seed`: one part a fraction (rounded to images), then all the rest."""
    order = np.random.default_rng(seed).permutation(count)
    ends = np.cumsum([round(fraction * count) for fraction in fractions])
    return np.split(order, ends)
