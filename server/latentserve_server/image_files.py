"""Image files as arrays, both ways. The only importer of Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentserve.v1 import bundle_pb2, generation_pb2
from latentserve_server.errors import InvalidArgument

LEVELS = np.float32(255)
"""What a byte of a pixel is divided by."""
GAP = 2
"""Pixels between the images of a grid."""
MAX_SIDE = 16_383
"""Pixels of a side: what WebP holds; the other formats hold more."""
MAX_FILE_PIXELS = 1 << 26
"""Pixels of an image file that is to be resized, at most; 256 MiB as RGB with room to work."""
FILE_FORMATS: dict[int, tuple[str, dict[str, Any]]] = {
    generation_pb2.IMAGE_FORMAT_PNG: ("PNG", {"compress_level": 1}),
    generation_pb2.IMAGE_FORMAT_JPEG: ("JPEG", {"quality": 90, "subsampling": 0}),
    generation_pb2.IMAGE_FORMAT_WEBP: ("WEBP", {"lossless": True, "method": 0}),
}
"""Pillow's name of each file format, and how it is written."""

_MODES = {1: "L", 3: "RGB"}
_FREE_READS = 1 << 10
"""Reads that any file may take; one with much metadata takes some hundreds."""
_BYTES_A_READ = 1 << 8
"""Bytes of a file for each read beyond these: a fraction of the chunks that encoders write."""


class _TooManyReads(Exception):
    """A file is in more pieces than an honest one."""


class _PatientFile(io.BytesIO):
    """The bytes of a file, for as many reads as its length accounts for.

    Pillow goes over chunks and markers in Python, with one read or more for each. A file of empty ones would take it
    seconds a megabyte.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = _FREE_READS + len(data) // _BYTES_A_READ

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO's, while there is patience."""
        if not self._reads:
            raise _TooManyReads
        self._reads -= 1
        return super().read(size)


def count_pixels(field: str, data: bytes, spec: bundle_pb2.ImageSpec, *, resize: bool) -> int:
    """The pixels of an image file, width x height, of which no more than the header is read.

    Raises:
        InvalidArgument: as `read_file`, as far as the header tells.
    """
    with _opened(field, data, spec, resize=resize) as file:
        return file.width * file.height


def read_file(field: str, data: bytes, spec: bundle_pb2.ImageSpec, *, resize: bool) -> NDArray[np.float32]:
    """An image file as float32 [channels, height, width] from 0 to 1.

    Raises:
        InvalidArgument: it is not a whole PNG, JPEG or WebP file of 8 bits a channel, it is of another size than the
            model's and not to be resized, or it has too many pixels.
    """
    with _opened(field, data, spec, resize=resize) as file:
        picture = file.convert(_MODES[spec.channels])
        if resize:
            picture = picture.resize((spec.width, spec.height), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture, dtype=np.float32)
    return np.moveaxis(pixels.reshape(spec.height, spec.width, spec.channels), -1, 0) / LEVELS


def write_file(image: NDArray[np.uint8], file_format: int) -> bytes:
    """An image [channels, height, width] as a file of one of FILE_FORMATS."""
    name, options = FILE_FORMATS[file_format]
    pixels = np.ascontiguousarray(np.moveaxis(image, 0, -1) if len(image) > 1 else image[0])
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, **options)
    return file.getvalue()


def tile(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Images [n, channels, height, width] as one picture [channels, height, width], row by row, on black."""
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, channels, height + GAP, width + GAP), np.uint8)
    cells[:count, :, :height, :width] = images
    grid = cells.reshape(rows, columns, *cells.shape[1:]).transpose(2, 0, 3, 1, 4)
    return grid.reshape(channels, rows * (height + GAP), columns * (width + GAP))[:, :-GAP, :-GAP]


@contextmanager
def _opened(field: str, data: bytes, spec: bundle_pb2.ImageSpec, *, resize: bool) -> Iterator[Image.Image]:
    """The file, its header read and checked; what is wrong with it within the block is an InvalidArgument, too."""
    try:
        with Image.open(_PatientFile(data), formats=("PNG", "JPEG", "WEBP")) as file:
            # Only the header is read so far: a small file of a huge image is refused before it is unpacked.
            _check_header(field, file, spec, resize=resize)
            yield file
    except InvalidArgument:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own bound, a higher one
        raise InvalidArgument(field, f"too many pixels; {MAX_FILE_PIXELS} in all are allowed") from error
    except _TooManyReads as error:
        raise InvalidArgument(field, f"more chunks than its {len(data)} bytes account for") from error
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise InvalidArgument(field, "not a readable PNG, JPEG or WebP image") from error


def _check_header(field: str, file: Image.Image, spec: bundle_pb2.ImageSpec, *, resize: bool) -> None:
    width, height = file.size
    if not resize and file.size != (spec.width, spec.height):
        raise InvalidArgument(field, f"{width}x{height} pixels where {spec.width}x{spec.height} are wanted")
    if width * height > MAX_FILE_PIXELS:
        raise InvalidArgument(field, f"{width}x{height} pixels; {MAX_FILE_PIXELS} in all are allowed")
    tiles = getattr(file, "tile", ())
    if file.mode.startswith(("I", "F")) or any("16" in str(tile.args) for tile in tiles):
        raise InvalidArgument(field, "more than 8 bits a channel; 8 are wanted")
