"""A served model that tells what it was shown: its posterior means are the pixels of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from picture_files import Pixels
from tiny_bundle import TinyModel

from latentserve.v1 import bundle_pb2


def write_seeing_model(place: Path, reading: bundle_pb2.PictureReading | None, *shape: int) -> None:
    """A bundle of such a model, of images [channels, height, width]."""
    channels, height, width = shape
    model = TinyModel(channels=channels, height=height, width=width, latent_dim=channels * height * width)
    model.weights["mean_weight"][:] = np.eye(model.pixels)
    model.weights["mean_bias"][:] = 0

    def say(manifest: bundle_pb2.Manifest) -> None:
        if reading is not None:
            manifest.image.reading.CopyFrom(reading)

    model.write(place, edit_manifest=say)


def levels(seen: NDArray[np.float32], *shape: int) -> Pixels:
    """What a model saw, as bytes [channels, height, width]; it must be the quotients of bytes and 255, to the bit."""
    bytes_ = np.rint(255 * seen).astype(np.uint8)
    np.testing.assert_array_equal(seen, bytes_.astype(np.float32) / np.float32(255))
    return bytes_.reshape(shape)
