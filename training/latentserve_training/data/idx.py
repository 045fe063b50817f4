"""The IDX file format: a magic number, the extent of every axis, then raw bytes."""

from __future__ import annotations

import gzip
import math
import zlib

import numpy as np
from numpy.typing import NDArray

from latentserve_training.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08


def unpack(packed: bytes, origin: str) -> bytes:
    """The bytes of a file, unpacked where they are gzip; `origin` says in messages where they came from.

    Raises:
        DataError: the gzip stream is damaged.
    """
    try:
        return gzip.decompress(packed) if packed.startswith(_GZIP_MAGIC) else packed
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{origin}: damaged gzip: {error}") from error


def parse_idx(content: bytes, axes: int) -> NDArray[np.uint8]:
    """The uint8 array, of `axes` axes, that the bytes of an IDX file hold.

    Raises:
        DataError: the magic number is not that of uint8 data with `axes` axes, or the length is not the header's.
    """
    magic = bytes((0, 0, _UNSIGNED_BYTE, axes))
    header = 4 + 4 * axes
    if content[:4] != magic or len(content) < header:
        raise DataError(
            f"not an IDX file of uint8 with {axes} axes: it starts with 0x{content[:4].hex() or '(nothing)'}"
        )
    shape = tuple(int(extent) for extent in np.frombuffer(content, ">u4", count=axes, offset=4))
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataError(f"IDX data of shape {list(shape)} takes {expected} bytes, but there are {len(content)}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
