"""Outputs of commands: pictures and arrays in files, folders or standard output."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentserve.contract import PICTURE_CHANNELS
from latentserve_client.cli.files import FileError, replacing
from latentserve_client.errors import RequestError
from latentserve_client.inputs import FileFormat

Form: TypeAlias = FileFormat | Literal["npy"]

PICTURES: tuple[FileFormat, ...] = ("png", "jpeg", "webp")
STANDARD_OUTPUT = "-"

_FORMS: MappingProxyType[str, Form] = MappingProxyType(
    {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".npy": "npy"}
)
# As a server writes them; webp is lossless.
_SAVED: MappingProxyType[FileFormat, dict[str, Any]] = MappingProxyType(
    {"png": {}, "jpeg": {"quality": 90, "subsampling": 0}, "webp": {"lossless": True, "exact": True}}
)
SEPARATOR = 2
"""Pixels around every cell of a grid."""

_BORDER = 160
_PAIR_LINE = 96
ALPHA, OPAQUE = 3, 255
"""The channel of a picture that says what covers, and the level that covers all."""

_RGBA = 4

_LONGEST_SIDE = MappingProxyType({"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383})


class StandardOutputError(OSError):
    """Standard output cannot be written: its reader left, or its disk is full."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where a result goes, and in which form.

    Attributes:
        path: of the file or folder; None for standard output.
        form: pictures of one of these formats, or a .npy array.
        is_folder: whether each image has a file of its own.
        bands: the channels that pictures show; none for all.
    """

    path: Path | None
    form: Form
    is_folder: bool = False
    bands: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str, form: FileFormat | None, forms: Sequence[Form], *, folders: bool) -> Self:
        """The output that `text` names, of the form of its ending; standard output and folders take `form`.

        Raises:
            RequestError: it is none of those that the command can write, or has another form than the one given.
        """
        is_folder = folders and text.endswith("/")
        if text == STANDARD_OUTPUT or is_folder:
            return cls(None if text == STANDARD_OUTPUT else Path(text), form or forms[0], is_folder)
        path = Path(text)
        found = _FORMS.get(path.suffix.lower())
        if found is None or found not in forms:
            endings = [ending for ending, of in _FORMS.items() if of in forms] + (["/"] if folders else [])
            raise RequestError(f"output {text!r} does not end in {' or '.join(endings)}; {STANDARD_OUTPUT} is a pipe")
        if form not in (None, found):
            raise RequestError(f"output {text!r} is {found} by its ending, and --format says {form}")
        return cls(path, found)

    def __str__(self) -> str:
        return "standard output" if self.path is None else str(self.path)

    @property
    def format(self) -> Literal["float32", "uint8"]:
        """The format to request: the values themselves, or 8 bits of each."""
        return "float32" if self.form == "npy" else "uint8"

    def check(self) -> None:
        """Find out before the work whether it can be written at its end. Raises FileError where it cannot."""
        if self.path is None:
            return
        if not self.path.parent.is_dir():
            raise FileError(f"{self.path}: there is no directory {self.path.parent}")
        if self.is_folder and self.path.exists() and not self.path.is_dir():
            raise FileError(f"{self.path}: is not a directory")
        if not self.is_folder and self.path.is_dir():
            raise FileError(f"{self.path}: is a directory")

    def check_bands(self, channels: int) -> None:
        """Find out whether images of so many channels can be shown.

        Raises:
            RequestError: a band is none of theirs, or a picture would have channels that its format does not hold.
        """
        if self.form == "npy":
            return
        if beyond := [band for band in self.bands if band >= channels]:
            raise RequestError(f"--bands {beyond[0]}: the model's images have channels 0 to {channels - 1}")
        shown, some = len(self.bands) or channels, "name some by --bands, or write a .npy array"
        if shown not in PICTURE_CHANNELS:
            raise RequestError(f"pictures hold 1, 3 or 4 channels and the model's images {channels}; {some}")
        if shown == _RGBA and self.form == "jpeg":
            raise RequestError("JPEG has no alpha; name 1 or 3 channels by --bands, or write .png or .webp")

    def shown(self, images: NDArray[Any]) -> NDArray[Any]:
        """What pictures show of images [n, channels, height, width]: the bands that are named, or all channels."""
        return images[:, list(self.bands)] if self.bands else images

    def write_images(self, images: NDArray[Any], columns: int | None = None) -> None:
        """Images in the dtype that `format` names: an array, a grid of `columns` columns, or a file for each image."""
        if self.form == "npy":
            self.write_array(images)
        elif self.path is not None and self.is_folder:
            self.path.mkdir(exist_ok=True)
            for index, image in enumerate(self.shown(images)):
                self.write_file(index, self._encode(draw_image(image)))
        else:
            self.write_picture(draw_grid(self.shown(images), columns))

    def write_picture(self, picture: Image.Image) -> None:
        """One picture, whole or not at all. Raises FileError where it cannot be written."""
        data = self._encode(picture)
        with self._open() as file:
            file.write(data)

    def write_array(self, array: NDArray[Any]) -> None:
        """A .npy file, whole or not at all. Raises FileError where it cannot be written."""
        with self._open() as file:
            write_header(file, array.dtype, array.shape)
            file.write(np.ascontiguousarray(array).data)

    def write_file(self, index: int, data: bytes) -> None:
        """The file of one image in the folder, named by its index. Raises FileError where it cannot be written."""
        assert self.path is not None
        ending = "jpg" if self.form == "jpeg" else self.form
        with replacing(self.path / f"{index:09d}.{ending}") as file:
            file.write(data)

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        with standard_output() if self.path is None else replacing(self.path) as file:
            yield file

    def _encode(self, picture: Image.Image) -> bytes:
        assert self.form != "npy"
        if max(picture.size) > _LONGEST_SIDE[self.form]:
            width, height = picture.size
            raise FileError(f"{self}: {width} x {height} pixels are more than {self.form} takes; write png")
        picture.save(data := io.BytesIO(), format=self.form, **_SAVED[self.form])
        return data.getvalue()


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """The process's standard output, flushed when the block ends well. Raises StandardOutputError."""
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except OSError as error:
        raise StandardOutputError(error.errno, error.strerror) from error


def draw_image(image: NDArray[np.uint8]) -> Image.Image:
    """One image, uint8 [1, 3 or 4, height, width], as a picture."""
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def draw_grid(images: NDArray[np.uint8], columns: int | None = None) -> Image.Image:
    """`images`, uint8 [n, 1, 3 or 4, height, width], in reading order on a grid of `columns`, else near-square."""
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    rows = math.ceil(count / columns)
    down, across = height + SEPARATOR, width + SEPARATOR
    canvas = np.full((rows * down + SEPARATOR, columns * across + SEPARATOR, channels), _BORDER, np.uint8)
    canvas[..., ALPHA:] = OPAQUE
    for index, image in enumerate(images):
        top = SEPARATOR + index // columns * down
        left = SEPARATOR + index % columns * across
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)


def draw_pairs(originals: NDArray[np.uint8], reconstructions: NDArray[np.uint8]) -> Image.Image:
    """A grid whose cells are an original above its reconstruction, a dark line between; both as draw_grid's images."""
    count, channels, _, width = originals.shape
    line = np.full((count, channels, 1, width), _PAIR_LINE, np.uint8)
    line[:, ALPHA:] = OPAQUE
    return draw_grid(np.concatenate([originals, line, reconstructions], axis=2))


def write_header(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Write the header of a .npy file for such an array in C order."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
