"""Images of any source as a model takes them, and as files, the way that the server reads and writes both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.pixel_range import PixelRangeError, read_pixels
from latentserve.v1 import bundle_pb2, generation_pb2
from latentserve_server.api.image_files import LEVELS, check_channels, read_file, write_file
from latentserve_server.errors import InvalidArgument


def check_files(spec: bundle_pb2.ImageSpec) -> None:
    """Refuse a model whose images no picture file holds.

    Raises:
        InvalidArgument: they have another number of channels than files.
    """
    check_channels("images", spec.channels)


def picture_pixels(data: bytes, spec: bundle_pb2.ImageSpec, *, resize: bool) -> NDArray[np.float32]:
    """A picture file as float32 [channels, height, width] from 0 to 1, read as the model's manifest says.

    Raises:
        InvalidArgument: it is no whole picture, or of another size than the model's and not to be resized.
    """
    return read_file("image", data, spec, resize=resize)


def tensor_pixels(pixels: NDArray[Any], spec: bundle_pb2.ImageSpec) -> NDArray[np.float32]:
    """An image of uint8, float16 or float32 [channels, height, width] as float32 from 0 to 1.

    Raises:
        InvalidArgument: it has another shape or type, or a value that is out of range.
    """
    shape = (spec.channels, spec.height, spec.width)
    if pixels.shape != shape:
        raise InvalidArgument("image", f"{pixels.dtype.name} {list(pixels.shape)} where {list(shape)} is wanted")
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / LEVELS
    if pixels.dtype not in (np.float32, np.float16):
        raise InvalidArgument("image", f"{pixels.dtype.name}; float32, float16 and uint8 are allowed")
    floats = pixels.astype(np.float32, copy=False)
    if not np.isfinite(floats).all():
        raise InvalidArgument("image", "a value is not finite")
    try:
        return read_pixels(floats)
    except PixelRangeError as error:
        raise InvalidArgument("image", str(error)) from error


def png(image: NDArray[np.uint8]) -> bytes:
    """An image [channels, height, width] as a PNG file, as the server writes it."""
    return write_file(image, generation_pb2.IMAGE_FORMAT_PNG)
