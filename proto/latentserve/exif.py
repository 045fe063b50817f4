"""The orientation of a picture in its EXIF block, read without Pillow."""

from __future__ import annotations

import struct

_ORIENTATION = 0x0112
_ORIENTATIONS = range(1, 9)
_INTEGERS = {3: "H", 4: "I"}
"""EXIF's types of numbers that an orientation may have: short, as it should be, and long."""


def orientation(exif: bytes) -> int:
    """The orientation in the first directory of an EXIF block (CIPA DC-008, 4.6.2); 1 where none can be read.

    Pillow's own reader unpacks every other tag, too, warns of damaged ones, and raises errors for some.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4], "")
    try:
        (place,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, place)
        for entry in range(place + 2, place + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _ORIENTATION and kind in _INTEGERS:
                (value,) = struct.unpack_from(f"{order}{_INTEGERS[kind]}", exif, entry + 8)
                return value if value in _ORIENTATIONS else 1
    except struct.error:
        pass
    return 1
