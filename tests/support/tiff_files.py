"""TIFF files with bands that Pillow does not write: deep, signed, unexplained, apart from one another."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from picture_files import HEIGHT, SCENE, WIDTH, Pixels

GREY, RGB = 1, 2
ALPHA, UNEXPLAINED = 2, 0
_TYPES = {3: "H", 4: "I"}
_DEFLATE = 8


def tiff(
    samples: NDArray[Any],
    kind: int = RGB,
    *,
    extra: tuple[int, ...] = (),
    apart: bool = False,
    deflated: bool = False,
    order: str = "<",
    number: int = 1,
    pages: int = 1,
) -> bytes:
    """A TIFF file of samples [height, width, bands] (TIFF 6.0), of as many pages of the same pixels.

    `kind` is its photometric interpretation, `extra` what bands beyond the colours are, `number` its sample format;
    `apart` lays one band behind the other.
    """
    height, width, bands = samples.shape
    planes = [samples[..., band] for band in range(bands)] if apart else [samples]
    strips = [plane.astype(samples.dtype.newbyteorder(order)).tobytes() for plane in planes]  # type: ignore[call-overload]
    strips = [zlib.compress(strip) if deflated else strip for strip in strips]
    places = [8 + sum(map(len, strips[:index])) for index in range(len(strips))]
    tags: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [8 * samples.itemsize] * bands),
        259: (3, [_DEFLATE if deflated else 1]), 262: (3, [kind]), 273: (4, places), 277: (3, [bands]),
        278: (4, [height]), 279: (4, [len(strip) for strip in strips]), 284: (3, [2 if apart else 1]),
    }  # fmt: skip
    if extra:
        tags[338] = (3, list(extra))
    if number != 1:
        tags[339] = (3, [number] * bands)
    content = b"".join(strips)
    content += bytes(len(content) % 2)
    start = 8 + len(content)
    directories = b""
    for page in range(pages):
        directories += _directory(tags, start + len(directories), order, last=page == pages - 1)
    return struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, start) + content + directories


def _directory(tags: dict[int, tuple[int, list[int]]], place: int, order: str, *, last: bool) -> bytes:
    """An image file directory that lies at a place of the file, with the values that do not fit into it behind it."""
    behind = place + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag in sorted(tags):
        kind, numbers = tags[tag]
        value = struct.pack(f"{order}{len(numbers)}{_TYPES[kind]}", *numbers)
        if len(value) > 4:
            value, values = struct.pack(f"{order}I", behind + len(values)), values + value
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + value.ljust(4, b"\0")
    following = 0 if last else behind + len(values)
    return struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", following) + values


_BAND: Pixels = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
_OPACITY: Pixels = np.repeat(np.repeat(np.array([[[0], [255]]], np.uint8), HEIGHT, 0), WIDTH // 2, 1)
_FOUR = np.dstack([SCENE, _BAND])
_SEEN = np.where(_OPACITY > 0, SCENE, np.uint8(0))
READ: dict[str, tuple[bytes, Pixels]] = {
    "rgb": (tiff(SCENE), SCENE),
    "rgb apart": (tiff(SCENE, apart=True), SCENE),
    "rgb apart, deflated": (tiff(SCENE, apart=True, deflated=True), SCENE),
    "rgb, big-endian": (tiff(SCENE, order=">"), SCENE),
    "two pages": (tiff(SCENE, pages=2), SCENE),
    "grey": (tiff(_BAND, GREY), _BAND[..., 0]),
    "grey and a band": (tiff(np.dstack([_BAND, _OPACITY]), GREY, extra=(UNEXPLAINED,)), _BAND[..., 0]),
    "alpha": (tiff(np.dstack([SCENE, _OPACITY]), extra=(ALPHA,)), _SEEN),
    "alpha and a band": (tiff(np.dstack([SCENE, _OPACITY, _BAND]), extra=(ALPHA, UNEXPLAINED)), _SEEN),
    "a band": (tiff(_FOUR, extra=(UNEXPLAINED,)), SCENE),
    "a band that no tag explains": (tiff(_FOUR), SCENE),
    "a band that no tag explains, apart": (tiff(_FOUR, apart=True), SCENE),
    "a band that no tag explains, deflated": (tiff(_FOUR, deflated=True), SCENE),
    "two bands": (tiff(np.dstack([_FOUR, _BAND]), extra=(UNEXPLAINED, UNEXPLAINED)), SCENE),
}
"""Files that are read, with their pixels [height, width], grey, or [height, width, 3]."""

_TWELVE_BITS = SCENE.astype(np.uint16) << 4
_TOO_DEEP = "more than 8 bits a channel; 8 are wanted"
_SIGNED = "numbers below 0 or fractions; whole ones from 0 to 255 are wanted"
REFUSED: dict[str, tuple[bytes, str]] = {
    **{
        f"16 bits{', apart' * apart}{', deflated' * deflated}{', big-endian' * (order == '>')}{more}": (
            tiff(samples, apart=apart, deflated=deflated, order=order), _TOO_DEEP,
        )
        for apart in (False, True)
        for deflated in (False, True)
        for order in ("<", ">")
        for more, samples in {"": _TWELVE_BITS, ", four bands": np.dstack([_TWELVE_BITS, _TWELVE_BITS[..., 0]])}.items()
    },
    "16 bits grey": (tiff(_TWELVE_BITS[..., :1], GREY), _TOO_DEEP),
    "16 bits grey with alpha": (tiff(_TWELVE_BITS[..., :2], GREY, extra=(ALPHA,)), _TOO_DEEP),
    "16 bits, five bands": (tiff(np.dstack([_TWELVE_BITS] * 2)[..., :5], extra=(0, 0)), _TOO_DEEP),
    "32 bits": (tiff(SCENE.astype(np.float32) / 255, number=3), _TOO_DEEP),
    "signed": (tiff(SCENE[..., :1].astype(np.int8), GREY, number=2), _SIGNED),
    "four grey bands": (
        tiff(_FOUR, GREY, extra=(UNEXPLAINED,) * 3),
        "bands in an arrangement that is not read (4); grey and colours of 8 bits are wanted",
    ),
}  # fmt: skip
"""Files that are refused, and what is said of them."""
