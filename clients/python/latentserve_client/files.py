"""The files that the command line reads and writes."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

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
        FileError: not a whole file of a format that a server takes, or of another size and not to be resized.
        OSError: the file cannot be read.
    """
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


def read_latents(path: Path, dim: int) -> NDArray[np.float32]:
    """The float array [n, dim] in the .npy file `path`, as float32.

    Raises:
        FileError: not a .npy file, or an array of another dtype or shape.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError, MemoryError) as error:
            raise FileError(f"{path}: not a .npy file, or a damaged one") from error
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] != dim or array.dtype.kind != "f":
        raise FileError(f"{path}: {array.dtype.name} {list(array.shape)}; the model takes float32 [n, {dim}]")
    return array.astype(np.float32)


def check_output(path: Path) -> None:
    """Find out before the work whether a file of that name can be written at its end.

    Raises:
        FileError: there is no directory for it, or a directory in its place.
    """
    if not path.parent.is_dir():
        raise FileError(f"{path}: there is no directory {path.parent}")
    if path.is_dir():
        raise FileError(f"{path}: is a directory")


def check_folder(path: Path) -> None:
    """Find out before the work whether a folder of that name is there or can be made.

    Raises:
        FileError: there is no directory for it, or something else in its place.
    """
    if not path.parent.is_dir():
        raise FileError(f"{path}: there is no directory {path.parent}")
    if path.exists() and not path.is_dir():
        raise FileError(f"{path}: is not a directory")


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
