"""Picture files as pixels, the same way in training and serving."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from latentserve.exif import orientation
from latentserve.tiff_bands import TOO_DEEP, TiffBands
from latentserve.v1 import bundle_pb2

# Named here, these formats are all that Pillow loads, and it does so before there are threads that could miss one.
FORMATS = (
    PngImagePlugin.PngImageFile.format,
    JpegImagePlugin.JpegImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    GifImagePlugin.GifImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
)
"""Pillow's names of the formats that are read from anyone: a decoder's work can be bounded before it is done."""
OWN_FORMATS = (*FORMATS, TiffImagePlugin.TiffImageFile.format)
"""Those that are read from one's own disk. A TIFF file may hold any of a dozen codecs, at any offsets."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's names of pixels of so many channels."""
_GREY_MODES = frozenset({"1", "L", "LA"})
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_DEEP = re.compile(r"[IF].*|.*;16[BLN]")
"""Pillow's names, in memory and in a file, of pixels of more than 8 bits a channel; BGR;16 is one of 5 or 6."""
_TIFF_MAGICS = (b"II*\0", b"MM\0*")
_FILTERS = {
    bundle_pb2.RESIZE_FILTER_UNSPECIFIED: Image.Resampling.BICUBIC,
    bundle_pb2.RESIZE_FILTER_NEAREST: Image.Resampling.NEAREST,
    bundle_pb2.RESIZE_FILTER_BOX: Image.Resampling.BOX,
    bundle_pb2.RESIZE_FILTER_BILINEAR: Image.Resampling.BILINEAR,
    bundle_pb2.RESIZE_FILTER_BICUBIC: Image.Resampling.BICUBIC,
    bundle_pb2.RESIZE_FILTER_LANCZOS: Image.Resampling.LANCZOS,
}
_REC709 = (0.2126, 0.7152, 0.0722, 0.0)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of each EXIF orientation upright; those from 5 on swap its sides."""


class PictureError(Exception):
    """A file that is no picture, or none that is read; the message does not name the file."""


class TooManyPixelsError(PictureError):
    """A picture of more pixels than Pillow decodes."""


def check_reading(reading: bundle_pb2.PictureReading) -> None:
    """Refuse options of a reading that are not known.

    Raises:
        PictureError: a value is none of those that there are; begins with the field's name.
    """
    ground = reading.background
    known = {
        "background": max(ground.red, ground.green, ground.blue) <= 255,
        "grey": reading.grey in bundle_pb2.GreyWeights.values(),
        "fit": reading.fit in bundle_pb2.Fit.values(),
        "filter": reading.filter in _FILTERS,
    }
    for field, holds in known.items():
        if not holds:
            raise PictureError(f"{field} has a value that is not known")


class Picture:
    """An open picture file. Until its pixels are asked for, no more than its header is read."""

    def __init__(
        self,
        file: Image.Image,
        bands: TiffBands | None,
        reading: bundle_pb2.PictureReading,
        formats: tuple[str, ...],
    ) -> None:
        """`open_picture` makes these."""
        self._file = file
        self._bands = bands
        self._reading = reading
        self._formats = formats
        # Pillow takes the fourth band of RGB for alpha also where the file does not say so.
        self._has_alpha = bands is None or bands.alphas > 0

    @property
    def grey(self) -> bool:
        """Whether the file's pixels are grey; a palette counts as colour, whatever is in it."""
        return self._file.mode in _GREY_MODES

    @property
    def transparent(self) -> bool:
        """Whether some of it may be transparent: it has an alpha channel or a colour key."""
        return _transparent(self._file) and self._has_alpha

    @property
    def paged(self) -> bool:
        """Whether more pages or frames follow the first one, which alone is read."""
        return bool(getattr(self._file, "is_animated", False))

    @property
    def banded(self) -> bool:
        """Whether it has bands that are neither colour nor alpha, such as infrared; they are not read."""
        return self._bands is not None and self._bands.spare > 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, turned as the reading says. An EXIF block after the pixels is known once they are read."""
        width, height = self._file.size
        return (height, width) if self._orientation() >= 5 else (width, height)

    def pixels(self, channels: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """The picture as the reading says: uint8 [channels, height, width], of 1 (grey), 3 (RGB) or 4 (RGBA) channels.

        Of 4 channels the fourth is the file's own alpha, 255 where it has none; no background is seen through it. The
        picture is brought to `size`, a width and a height, where there is one, and colours count by their alpha then.

        Raises:
            PictureError: the file is damaged.
        """
        with _refusing(self._formats):
            self._file.load()
            method = _UPRIGHT.get(self._orientation())
            picture = self._file if method is None else self._file.transpose(method)
            keeps_alpha = channels == 4 and self._has_alpha and _transparent(picture)
            picture = _converted(picture, "RGBA") if keeps_alpha else self._flat(picture)
            if channels == 1:
                picture = self._grey(picture)
            if size is not None:
                picture = self._resized(picture, size)
            picture = _converted(picture, _MODES[channels])
            return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)

    def _orientation(self) -> int:
        """The EXIF orientation, 1 to 8, that is to be undone: 1 in a TIFF file, which Pillow turns by itself."""
        return orientation(self._file.info.get("exif", b"")) if self._reading.upright else 1

    def _flat(self, picture: Image.Image) -> Image.Image:
        """The picture without transparency, L or RGB."""
        if self._reading.HasField("background") and self._has_alpha and _transparent(picture):
            ground, seen = self._reading.background, _converted(picture, "RGBA")
            flat = Image.new("RGB", picture.size, (ground.red, ground.green, ground.blue))
            flat.paste(seen, mask=seen)
            return flat
        # Else Pillow warns of what becomes of it.
        picture.info.pop("transparency", None)
        return _converted(picture, "L" if picture.mode in _GREY_MODES else "RGB")

    def _grey(self, picture: Image.Image) -> Image.Image:
        if picture.mode == "RGB" and self._reading.grey == bundle_pb2.GREY_WEIGHTS_REC709:
            return picture.convert("L", _REC709)
        return _converted(picture, "L")

    def _resized(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        method = _FILTERS[self._reading.filter]
        if self._reading.fit == bundle_pb2.FIT_CROP:
            return ImageOps.fit(picture, size, method)
        return picture.resize(size, method)


@contextmanager
def open_picture(
    source: Path | BinaryIO, reading: bundle_pb2.PictureReading, formats: tuple[str, ...]
) -> Iterator[Picture]:
    """The picture in a file of one of the formats, which is closed after the block.

    Raises:
        PictureError: it is no such file, or not one of 8 bits a channel; or the reading is not known.
        OSError: the file cannot be opened.
    """
    check_reading(reading)
    if isinstance(source, Path):
        with source.open("rb") as opened, open_picture(opened, reading, formats) as picture:
            yield picture
        return
    with _refusing(formats):
        file = _identified(source, formats)
        bands = TiffBands.of(file.tag_v2) if isinstance(file, TiffImagePlugin.TiffImageFile) else None
        _check_kind(file, bands)
    with file:
        yield Picture(file, bands, reading, formats)


def _identified(source: BinaryIO, formats: tuple[str, ...]) -> Image.Image:
    """The file, opened; where it is a TIFF file whose bands Pillow does not know, the error says so."""
    try:
        return Image.open(source, formats=formats)
    except UnidentifiedImageError:
        tags = _tags(source) if TiffImagePlugin.TiffImageFile.format in formats else {}
        if not tags:
            raise
    bands = TiffBands.of(tags)
    unknown = f"bands in an arrangement that is not read ({bands.count}); grey and colours of 8 bits are wanted"
    raise PictureError(bands.problem or unknown)


def _converted(picture: Image.Image, mode: str) -> Image.Image:
    """The picture in a mode, which Pillow would copy where it has it already."""
    return picture if picture.mode == mode else picture.convert(mode)


def _transparent(picture: Image.Image) -> bool:
    """What Pillow 10.1 and later call `has_transparency_data`, of the modes that are read."""
    return picture.mode in {"LA", "PA", "RGBA"} or "transparency" in picture.info


def _check_kind(file: Image.Image, bands: TiffBands | None) -> None:
    if any(map(_DEEP.fullmatch, (file.mode, *_raw_modes(file)))):
        raise PictureError(TOO_DEEP)
    if bands is not None and bands.problem:  # Pillow's names do not tell where each band lies apart
        raise PictureError(bands.problem)
    if file.mode not in _GREY_MODES | _COLOUR_MODES:
        raise PictureError(f"pixels of kind {file.mode!r}; grey and colours are wanted")


def _tags(source: BinaryIO) -> Mapping[int, Any]:
    """The tags of a TIFF file's first page; none where it is no TIFF file."""
    source.seek(0)
    header = source.read(8)
    if not header.startswith(_TIFF_MAGICS):
        return {}
    directory = TiffImagePlugin.ImageFileDirectory_v2(header)
    source.seek(directory.next)
    directory.load(source)
    return directory


def _raw_modes(file: Image.Image) -> Iterator[str]:
    """What the pixels are in the file, where Pillow's decoder takes that as its argument, or as the first of them."""
    for tile in getattr(file, "tile", ()):
        *_, args = tile  # its names are Pillow 11's
        args = args if isinstance(args, tuple) else (args,)
        yield from (arg for arg in args[:1] if isinstance(arg, str))


@contextmanager
def _refusing(formats: tuple[str, ...]) -> Iterator[None]:
    try:
        yield
    except PictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError("too many pixels") from error
    except UnidentifiedImageError:  # which says no more, and names an object in memory
        raise PictureError(f"not a readable {format_names(formats)} file") from None
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise PictureError(f"not a readable {format_names(formats)} file") from error


def format_names(formats: tuple[str, ...]) -> str:
    """The formats as they are written in a sentence, with an "or"."""
    *names, last = (name.replace("WEBP", "WebP") for name in formats)
    return f"{', '.join(names)} or {last}"
