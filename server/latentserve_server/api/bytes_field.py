"""The tag and length before a field of large bytes, which a message of Python would copy again and again."""

from __future__ import annotations

_BYTES = 2
"""The wire type of fields that say how long they are."""


def before_bytes(field: int, size: int) -> bytes:
    """What precedes so many bytes of the field of a number: its tag, and its length."""
    return _varint(field << 3 | _BYTES) + _varint(size)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
