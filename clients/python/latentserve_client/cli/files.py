"""Files that the command line reads and writes."""

from __future__ import annotations

import io
import math
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from latentserve.contract import PICTURE_CHANNELS
from latentserve.picture import FORMATS, PictureError, open_picture
from latentserve.v1 import bundle_pb2

_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")


class FileError(Exception):
    """A file that is not what it should be; the message begins with its name."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """An image file: its bytes, and its pixels as the model sees them, uint8 [channels, height, width]."""

    data: bytes
    pixels: NDArray[np.uint8]


def read_image(path: Path, spec: bundle_pb2.ImageSpec, *, resize: bool) -> ImageFile:
    """The image in `path`, read as the server reads it for a model of such images, and resized where `resize` says so.

    Raises:
        FileError: not a whole file of a format that a server takes, or of another size and not to be resized; or the
            model's images are none that a file shows.
        OSError: the file cannot be read.
    """
    if spec.channels not in PICTURE_CHANNELS:
        held = f"the model's images have {spec.channels} channels, which no image file holds"
        raise FileError(f"{path}: {held}; call it from Python, with an array")
    data, wanted = path.read_bytes(), (spec.width, spec.height)
    try:
        with open_picture(io.BytesIO(data), spec.reading, FORMATS) as picture:
            if not resize and sorted(picture.size) != sorted(wanted):
                raise _wrong_size(path, picture.size, spec)
            pixels = picture.pixels(spec.channels, wanted if resize else None)
    except PictureError as error:
        raise FileError(f"{path}: {error}") from error
    size = pixels.shape[2], pixels.shape[1]
    if size != wanted:
        raise _wrong_size(path, size, spec)
    return ImageFile(data, pixels)


def _wrong_size(path: Path, size: tuple[int, int], spec: bundle_pb2.ImageSpec) -> FileError:
    width, height = size
    return FileError(f"{path}: {height} x {width} pixels; the model takes {spec.height} x {spec.width}")


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files, with the image files that lie in it in the place of a folder, by name; hidden ones are passed over.

    Raises:
        FileError: there is no image file in a folder.
        OSError: a folder cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if _is_image(file))
        if not inside:
            raise FileError(f"{path}: there is no file in this folder that ends in {', '.join(_IMAGE_ENDINGS)}")
        found += inside
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _IMAGE_ENDINGS and not path.name.startswith(".") and path.is_file()


def read_latents(path: Path, shape: tuple[int, ...], *, codes: bool = False) -> NDArray[Any]:
    """The float array [n, *shape], or of rows of as many values, in the .npy file `path`, as float32.

    Or that of integers, which are `codes`, as int64.

    Raises:
        FileError: not a .npy file, or an array of another dtype or shape.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError, MemoryError) as error:
            raise FileError(f"{path}: not a .npy file, or a damaged one") from error
    forms = dict.fromkeys((shape, (math.prod(shape),)))
    dtype = np.dtype(np.int64 if codes else np.float32)
    fits = array.dtype.kind == "f" if not codes else array.dtype.kind in "iu" and np.can_cast(array.dtype, dtype)
    if array.shape[1:] not in forms or array.shape[0] == 0 or not fits:
        wanted = " or ".join(f"[{', '.join(('n', *map(str, form)))}]" for form in forms)
        raise FileError(f"{path}: {array.dtype.name} {list(array.shape)}; the model takes {dtype.name} {wanted}")
    return array.astype(dtype)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, and goes away when it does not.

    Raises:
        FileError: it cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


class GrowingArray:
    """Rows [n, *shape] of one dtype that are written as they come, to a hidden file beside `path` until publish().

    Only the rows of one append are in memory. numpy leaves room in the header for the first axis to grow, so the header
    is written anew in its place after each append.

    Raises:
        FileError: from any method, where the file cannot be written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self._path = path
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        self.rows = 0
        """Rows written."""
        with self._reporting():
            self._file = self._temporary.open("xb")
            self._write_header(0)

    def append(self, rows: NDArray[Any]) -> None:
        """Write `rows`, [k, *shape], below the others."""
        assert rows.shape[1:] == self._shape
        with self._reporting():
            self._file.write(np.ascontiguousarray(rows, self._dtype).data)
            self._file.flush()
            self._write_header(self.rows + len(rows))
            self.rows += len(rows)

    def publish(self, path: Path) -> None:
        """Close the file and rename it to `path`, in place of any file there."""
        with self._reporting():
            self._file.close()
            self._temporary.replace(path)

    def discard(self) -> None:
        """Delete the file, unless it has been published."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _write_header(self, rows: int) -> None:
        self._file.seek(0)
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (rows, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._file.flush()
        self._file.seek(0, 2)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileError(f"{self._path}: cannot be written: {error.strerror or error}") from error
