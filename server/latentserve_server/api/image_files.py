"""Image files: those that are wanted held to what can be made; decoded, encoded and tiled into a grid by Pillow."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentserve.contract import PICTURE_CHANNELS
from latentserve.picture import FORMATS, Picture, PictureError, TooManyPixelsError, open_picture
from latentserve.v1 import bundle_pb2, generation_pb2
from latentserve_server.api.picture_cost import PatientFile, check_outline
from latentserve_server.errors import InvalidArgument

LEVELS = np.float32(255)
"""What a byte of a pixel is divided by."""
GAP = 2
"""Pixels between the images of a grid."""
MAX_SIDE = 16_383
"""Pixels of a side of a picture that is written: what WebP holds; the other formats hold more."""
MAX_FILE_SIDE = 65_535
"""Pixels of a side of an image file that is read: what JPEG holds. Very many rows take long, however short they are."""
MAX_FILE_PIXELS = 1 << 26
"""Pixels of an image file that is to be resized, at most; 256 MiB as RGB with room to work."""
FILE_FORMATS: dict[int, tuple[str, dict[str, Any]]] = {
    generation_pb2.IMAGE_FORMAT_PNG: ("PNG", {"compress_level": 1}),
    generation_pb2.IMAGE_FORMAT_JPEG: ("JPEG", {"quality": 90, "subsampling": 0}),
    generation_pb2.IMAGE_FORMAT_WEBP: ("WEBP", {"lossless": True, "exact": True, "method": 0}),
}
"""Pillow's name of each file format, and how it is written; `exact` keeps colours also where alpha is 0."""
CHANNEL_NUMBERS = "{}, {} or {}".format(*PICTURE_CHANNELS)
"""How many channels a file may have, as errors say it."""
_ALPHA = 3
"""The place of alpha among four channels."""
_JPEG_CHANNELS = 3


def check_channels(field: str, channels: int) -> None:
    """Refuse image files for a model whose images have so many channels.

    Raises:
        InvalidArgument: no file holds as many.
    """
    if channels not in PICTURE_CHANNELS:
        held = f"files hold {CHANNEL_NUMBERS} channels and the model's images {channels}"
        raise InvalidArgument(field, f"{held}; send a tensor")


def check_wanted(output: generation_pb2.Output, rows: int, spec: bundle_pb2.ImageSpec, field: str) -> None:
    """Hold the files that are wanted of `rows` images, or the grid, to what can be made. Of no rows every grid can.

    Raises:
        InvalidArgument: the format shows other channels than files hold, bands are none of the model's, or the grid is
            too large.
    """
    _check_bands(output, spec.channels, field)
    if not output.grid_columns or not rows:
        return
    columns = min(output.grid_columns, rows)
    width, height = columns * (spec.width + GAP), -(-rows // columns) * (spec.height + GAP)
    if max(width, height) > MAX_SIDE:
        raise InvalidArgument(f"{field}.grid_columns", f"{width}x{height} pixels; {MAX_SIDE} a side are allowed")


def count_pixels(field: str, data: bytes, spec: bundle_pb2.ImageSpec, *, resize: bool) -> int:
    """The pixels of an image file, width x height, of which no more than the header is read.

    Raises:
        InvalidArgument: as `read_file`, as far as the header tells.
    """
    with _opened(field, data, spec, resize=resize) as picture:
        return math.prod(picture.size)


def read_file(field: str, data: bytes, spec: bundle_pb2.ImageSpec, *, resize: bool) -> NDArray[np.float32]:
    """An image file as float32 [channels, height, width] from 0 to 1, read as the model's manifest says.

    Raises:
        InvalidArgument: it is not a whole file of FORMATS with 8 bits a channel, it is of another size than the model's
            and not to be resized, it has too many pixels, or it would take far longer than its pixels do.
    """
    with _opened(field, data, spec, resize=resize) as picture:
        pixels = picture.pixels(spec.channels, (spec.width, spec.height) if resize else None)
    _, height, width = pixels.shape
    if (width, height) != (spec.width, spec.height):  # turned by what came after its pixels
        raise _wrong_size(field, (width, height), spec)
    return pixels.astype(np.float32) / LEVELS


def write_file(image: NDArray[np.uint8], file_format: int) -> bytes:
    """An image [channels, height, width] as a file of one of FILE_FORMATS."""
    name, options = FILE_FORMATS[file_format]
    pixels = np.ascontiguousarray(np.moveaxis(image, 0, -1) if len(image) > 1 else image[0])
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, **options)
    return file.getvalue()


def tile(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Images [n, channels, height, width] as one picture [channels, height, width], row by row, on opaque black."""
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, channels, height + GAP, width + GAP), np.uint8)
    cells[:, _ALPHA:] = np.iinfo(np.uint8).max
    cells[:count, :, :height, :width] = images
    grid = cells.reshape(rows, columns, *cells.shape[1:]).transpose(2, 0, 3, 1, 4)
    return grid.reshape(channels, rows * (height + GAP), columns * (width + GAP))[:, :-GAP, :-GAP]


@contextmanager
def _opened(field: str, data: bytes, spec: bundle_pb2.ImageSpec, *, resize: bool) -> Iterator[Picture]:
    """The file, its header read and checked; what is wrong with it within the block is an InvalidArgument, too."""
    try:
        check_outline(data)
        with open_picture(PatientFile(data), spec.reading, FORMATS) as picture:
            # Only the header is read so far: a small file of a huge image is refused before it is unpacked.
            _check_size(field, picture.size, spec, resize=resize)
            yield picture
    except TooManyPixelsError as error:  # by Pillow's own bound, a higher one
        raise InvalidArgument(field, f"too many pixels; {MAX_FILE_PIXELS} in all are allowed") from error
    except PictureError as error:
        raise InvalidArgument(field, str(error)) from error


def _check_bands(output: generation_pb2.Output, channels: int, field: str) -> None:
    """Hold bands to the model's channels, and what a file would show to what its format holds."""
    bands = output.bands
    if bands and len(bands) not in PICTURE_CHANNELS:
        raise InvalidArgument(f"{field}.bands", f"{len(bands)} bands; {CHANNEL_NUMBERS} are allowed")
    for place, band in enumerate(bands):
        if band >= channels:
            raise InvalidArgument(f"{field}.bands[{place}]", f"{band}; 0 to {channels - 1} are allowed")
    shown = len(bands) or channels
    if shown not in PICTURE_CHANNELS:
        problem = f"files hold {CHANNEL_NUMBERS} channels and the model's images {channels}"
        raise InvalidArgument(f"{field}.format", f"{problem}; name some in {field}.bands, or ask for a tensor")
    if shown > _JPEG_CHANNELS and output.format == generation_pb2.IMAGE_FORMAT_JPEG:
        raise InvalidArgument(
            f"{field}.format", f"JPEG has no alpha; name 1 or 3 {field}.bands, or ask for PNG or WebP"
        )


def _check_size(field: str, size: tuple[int, int], spec: bundle_pb2.ImageSpec, *, resize: bool) -> None:
    width, height = size
    if not resize and sorted(size) != sorted((spec.width, spec.height)):
        raise _wrong_size(field, size, spec)
    if width * height > MAX_FILE_PIXELS:
        raise InvalidArgument(field, f"{width}x{height} pixels; {MAX_FILE_PIXELS} in all are allowed")
    if max(size) > MAX_FILE_SIDE:
        raise InvalidArgument(field, f"{width}x{height} pixels; {MAX_FILE_SIDE} a side are allowed")


def _wrong_size(field: str, size: tuple[int, int], spec: bundle_pb2.ImageSpec) -> InvalidArgument:
    width, height = size
    return InvalidArgument(field, f"{width}x{height} pixels where {spec.width}x{spec.height} are wanted")
