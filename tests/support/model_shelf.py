"""A repository on disk that changes as people change theirs, with models that are known by what they answer.

Models differ in their weights alone, by `seed`; `seed_of` finds the one model that a reconstruction can have come from.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb

BROKEN = "decoder.onnx: the SHA-256 is not the manifest's; the file was changed or damaged"
"""What is said of a broken bundle."""
VERSION = "a version is a folder whose name is a whole number from 1 to 10^18 - 1, without leading zeros"
"""What is said of what lies in a version's place and is none."""
_ROWS = 3


class Shelf:
    """The versions of the model "vae" under `root`; every change is one rename, as an exporter's is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = root / "vae"
        self._numbers = itertools.count()

    @classmethod
    def of(cls, root: Path, *versions: int) -> Self:
        """A shelf of these versions, each with the model of the seed of its own number."""
        shelf = cls(root)
        for version in versions:
            shelf.publish(version, version)
        return shelf

    def publish(self, version: int, seed: int, *, broken: bool = False, **options: Any) -> Path:
        """Put the model of a seed in the version's place, whether or not something lies there."""
        return self.publish_written(version, lambda place: write(place, seed, broken=broken, **options))

    def publish_written(self, version: int, write: Callable[[Path], object]) -> Path:
        """Put what `write` writes in the version's place, whether or not something lies there."""
        staged = self.model / f".staging-{next(self._numbers)}"
        write(staged)
        self.remove(version)
        place = self.model / str(version)
        staged.rename(place)
        return place

    def remove(self, version: int) -> None:
        """Take a version away, if there is one."""
        place, away = self.model / str(version), self.model / f".removed-{next(self._numbers)}"
        if place.exists():
            place.rename(away)
            shutil.rmtree(away)


def write(place: Path, seed: int, *, broken: bool = False, **options: Any) -> Path:
    """Write the bundle of a seed; a broken one has a damaged decoder."""
    TinyModel(seed=seed, **options).write(place)
    if broken:
        decoder = place / "decoder.onnx"
        data = bytearray(decoder.read_bytes())
        data[-1] ^= 1
        decoder.write_bytes(data)
        # A manifest of its own, for broken bundles are told from one another by it, too.
        (place / "manifest.json").write_text((place / "manifest.json").read_text() + os.linesep)
    return place


def reconstruction(model: pb.ModelRef) -> pb.ReconstructRequest:
    """A request that goes through both graphs of a model."""
    images = TinyModel().random_images(_ROWS)
    return pb.ReconstructRequest(model=model, images=pb.Images(tensor=from_ndarray(images)))


def seed_of(reply: pb.ReconstructResponse, seeds: range) -> int:
    """The one seed whose model gives this reply with its encoder and its decoder both."""
    pixels = TinyModel().random_images(_ROWS) / 255
    decoded = to_ndarray(reply.images.tensor)
    candidates = []
    for seed in seeds:
        model = _model(seed)
        mean, _ = model.posterior(pixels)
        if np.allclose(decoded, model.images(mean), atol=1e-4):
            candidates.append(seed)
    assert len(candidates) == 1, f"the reply is that of the seeds {candidates}"
    return candidates[0]


_MODELS: dict[int, TinyModel] = {}


def _model(seed: int) -> TinyModel:
    return _MODELS.setdefault(seed, TinyModel(seed=seed))
