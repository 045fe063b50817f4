"""Small picture files of every kind that is read, each with the pixels that a model is to see.

Files are Pillow's; the pixels beside them are written down, or follow from the definition of what is in the file.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

HEIGHT, WIDTH = 8, 16
"""Two blocks of a JPEG file, each of which may have a colour of its own."""
RANDOM = np.random.default_rng(0)
SCENE: Pixels = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
INDICES: Pixels = RANDOM.integers(0, 4, (HEIGHT, WIDTH), np.uint8)
COLOURS: Pixels = np.array([[255, 255, 0], [200, 100, 50], [0, 0, 255], [10, 250, 130]], np.uint8)
ALPHAS: Pixels = np.array([255, 51, 0, 255], np.uint8)
"""Whole, a fifth, none, whole."""
ON_BLACK: Pixels = np.array([[255, 255, 0], [40, 20, 10], [0, 0, 0], [10, 250, 130]], np.uint8)
GREYS: Pixels = np.array([255, 200, 100, 30], np.uint8)
GREYS_ON_BLACK: Pixels = np.array([255, 40, 0, 30], np.uint8)
HALVES: Pixels = np.repeat(np.repeat([[[200, 100, 50], [20, 220, 120]]], HEIGHT, 0), WIDTH // 2, 1).astype(np.uint8)

STORED = {
    1: lambda row, column: (row, column),
    2: lambda row, column: (row, WIDTH - 1 - column),
    3: lambda row, column: (HEIGHT - 1 - row, WIDTH - 1 - column),
    4: lambda row, column: (HEIGHT - 1 - row, column),
    5: lambda row, column: (column, row),
    6: lambda row, column: (column, WIDTH - 1 - row),
    7: lambda row, column: (HEIGHT - 1 - column, WIDTH - 1 - row),
    8: lambda row, column: (HEIGHT - 1 - column, row),
}
"""Where in the scene a pixel of the file lies, from its row and column, by EXIF orientation (CIPA DC-008, 4.6.2)."""


@dataclass(frozen=True)
class PictureFile:
    """A file, and what a model of HEIGHT x WIDTH pixels sees of it."""

    name: str
    data: bytes
    pixels: Pixels
    """As training reads it: uint8 [height, width] of a grey file, [height, width, 3] of any other."""
    bare: Pixels
    """As a server reads it for a bundle that says nothing: not turned, and without transparency."""
    slack: int = 0
    """Levels by which a lossy format may miss them."""
    alpha: Pixels | None = None
    """What the file says of transparency: uint8 [height, width]; None where it says nothing."""


def saved(picture: Image.Image | Pixels, form: str, **options: Any) -> bytes:
    """The bytes of a picture as a file."""
    file = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(file, form, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    """An EXIF block that says no more than the orientation."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def in_channels(pixels: Pixels) -> Pixels:
    """Pixels [height, width], or [height, width, 3], as [3, height, width]."""
    return np.broadcast_to(pixels.T, (3, *pixels.T.shape[-2:])).swapaxes(1, 2)


def assert_seen(seen: Pixels, expected: Pixels, file: PictureFile) -> None:
    """Compare pixels of one shape, as closely as the file's format allows."""
    np.testing.assert_allclose(seen.astype(int), expected.astype(int), rtol=0, atol=file.slack, err_msg=file.name)


def stored(scene: Pixels, orientation: int) -> Pixels:
    """The pixels of a file whose picture, turned as its orientation says, is the scene."""
    sides = (HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT)
    rows, columns = STORED[orientation](*np.indices(sides))
    return np.ascontiguousarray(scene[rows, columns])


def png(height: int, width: int, bits: int, kind: int, rows: bytes, *more: tuple[bytes, bytes], part: int = 0) -> bytes:
    """A PNG file by hand, of filtered rows in chunks of `part` bytes or one, and of more chunks after these."""
    header, packed = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0), zlib.compress(rows)
    part = part or len(packed)
    pixels = [(b"IDAT", packed[start : start + part]) for start in range(0, len(packed), part)]
    chunks = [(b"IHDR", header), *pixels, *more, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _paletted(form: str, **options: Any) -> bytes:
    picture = Image.fromarray(INDICES, "P")
    picture.putpalette(COLOURS.tobytes().ljust(3 * 256, b"\0"))  # Pillow 9 writes no shorter one to a whole BMP file
    return saved(picture, form, **options)


def _masked(colours: Pixels) -> Pixels:
    """Colours or greys by index, with the index's transparency as one more channel."""
    return np.dstack([colours[INDICES], ALPHAS[INDICES]])


def _animated(form: str, first: Image.Image, **options: Any) -> bytes:
    second = Image.new(first.mode, first.size)
    return saved(first, form, save_all=True, append_images=[second], duration=100, **options)


def _files() -> list[PictureFile]:
    colour, grey, bit = COLOURS[INDICES], GREYS[INDICES], (INDICES > 1) * np.uint8(255)
    dark, pale = ON_BLACK[INDICES], GREYS_ON_BLACK[INDICES]
    alphas, no_third = ALPHAS[INDICES], (INDICES != 2) * np.uint8(255)
    no_blue = np.where(INDICES[..., np.newaxis] == 2, np.uint8(0), colour)
    inks = Image.new("CMYK", (WIDTH, HEIGHT), (55, 155, 205, 51))
    paper = np.full((HEIGHT, WIDTH, 3), (160, 80, 40), np.uint8)  # (255 - ink) x (255 - black) / 255
    quality: dict[str, Any] = {"quality": 100, "subsampling": 0}
    rgb = Image.fromarray(SCENE)
    return [
        PictureFile("rgb.png", saved(SCENE, "PNG"), SCENE, SCENE),
        PictureFile("rgb.bmp", saved(SCENE, "BMP"), SCENE, SCENE),
        PictureFile("rgb.webp", saved(SCENE, "WEBP", lossless=True), SCENE, SCENE),
        PictureFile("grey.png", saved(grey, "PNG"), grey, grey),
        PictureFile("grey.bmp", saved(grey, "BMP"), grey, grey),
        PictureFile("bit.png", saved(Image.fromarray(bit).convert("1"), "PNG"), bit, bit),
        PictureFile("palette.png", _paletted("PNG"), colour, colour),
        PictureFile("palette.gif", _paletted("GIF"), colour, colour),
        PictureFile("palette.bmp", _paletted("BMP"), colour, colour),
        PictureFile("palette-alphas.png", _paletted("PNG", transparency=ALPHAS.tobytes()), dark, colour, alpha=alphas),
        PictureFile("palette-key.png", _paletted("PNG", transparency=2), no_blue, colour, alpha=no_third),
        PictureFile("palette-key.gif", _paletted("GIF", transparency=2), no_blue, colour, alpha=no_third),
        PictureFile(
            "rgb-key.png",
            saved(colour, "PNG", transparency=tuple(map(int, COLOURS[2]))),
            no_blue,
            colour,
            alpha=no_third,
        ),
        PictureFile(
            "grey-key.png", saved(grey, "PNG", transparency=100), np.where(grey == 100, 0, grey), grey, alpha=no_third
        ),
        PictureFile("grey-alpha.png", saved(Image.fromarray(_masked(GREYS), "LA"), "PNG"), pale, grey, alpha=alphas),
        PictureFile("rgb-alpha.png", saved(_masked(COLOURS), "PNG"), dark, colour, alpha=alphas),
        PictureFile(
            "rgb-alpha.webp", saved(_masked(COLOURS), "WEBP", lossless=True, exact=True), dark, colour, alpha=alphas
        ),
        PictureFile("baseline.jpg", saved(HALVES, "JPEG", **quality), HALVES, HALVES, slack=2),
        PictureFile("progressive.jpg", saved(HALVES, "JPEG", progressive=True, **quality), HALVES, HALVES, slack=2),
        PictureFile("inks.jpg", saved(inks, "JPEG", quality=100), paper, paper, slack=2),
        PictureFile("animated.gif", _animated("GIF", Image.open(io.BytesIO(_paletted("GIF")))), colour, colour),
        PictureFile("animated.png", _animated("PNG", rgb), SCENE, SCENE),
        PictureFile("animated.webp", _animated("WEBP", rgb, lossless=True), SCENE, SCENE),
        *(
            PictureFile(f"orientation-{n}.png", saved(stored(SCENE, n), "PNG", exif=exif(n)), SCENE, stored(SCENE, n))
            for n in STORED
        ),
        PictureFile(
            "turned.webp", saved(stored(SCENE, 6), "WEBP", lossless=True, exif=exif(6)), SCENE, stored(SCENE, 6)
        ),
        PictureFile(
            "turned.jpg", saved(stored(HALVES, 8), "JPEG", exif=exif(8), **quality), HALVES, stored(HALVES, 8), slack=2
        ),
        PictureFile("orientation-9.png", saved(SCENE, "PNG", exif=exif(9)), SCENE, SCENE),
        PictureFile("damaged-exif.png", saved(SCENE, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), SCENE, SCENE),
    ]


FILES = _files()
BY_NAME = {file.name: file for file in FILES}

_DEEP = np.full((HEIGHT, 1 + 6 * WIDTH), 77, np.uint8)
_DEEP[:, 0] = 0
DEEP = {
    "grey-16.png": saved(np.full((HEIGHT, WIDTH), 3000, np.uint16), "PNG"),
    "rgb-16.png": png(HEIGHT, WIDTH, 16, 2, _DEEP.tobytes()),
    "grey-alpha-16.png": png(HEIGHT, WIDTH, 16, 4, _DEEP[:, : 1 + 4 * WIDTH].tobytes()),
}
"""Files of more than 8 bits a channel, which are refused."""
