"""The fields of a request, counted before it is parsed.

A parser makes 4 million objects of 8 MiB of empty messages, holds the interpreter for half a second and takes 40 bytes
of memory for each byte. Fields are counted by their tags and lengths alone, no more of them than are allowed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from latentserve.contract import MAX_LABELS
from latentserve_server.errors import InvalidArgument

MAX_TEXT_BYTES = 1 << 16
"""The longest text; the longest that mean anything are names of 140 characters."""
MAX_ELEMENTS = 1 << 20
"""Integers in an OIP tensor's typed contents: some 15 ms to parse. Its raw contents may hold more."""
MAX_REPEATS = 64
"""How often a message field, or a field that is no list, may appear: requests have at most two tensors, two axes, and
few parameters."""
_OTHER_FIELDS = 1 << 10
"""Fields of a message that are not one a row."""
_FIELDS_A_ROW = 4
"""Lists of a request with one element a row: two of points and one of labels, and one to spare."""

_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10
_COPIED = {
    FieldDescriptor.TYPE_DOUBLE,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_FLOAT,
    FieldDescriptor.TYPE_FIXED32,
    FieldDescriptor.TYPE_SFIXED32,
    FieldDescriptor.TYPE_BYTES,
}
"""Types that a parser copies as they are, packed ones too."""


@dataclass(frozen=True, slots=True)
class FieldLimits:
    """What a request may hold, given the rows that a call may have."""

    max_rows: int

    @property
    def fields(self) -> int:
        """Fields of a request and of the messages within it, at most; an element that is not packed is one."""
        return _FIELDS_A_ROW * self.max_rows + _OTHER_FIELDS

    def integers(self, name: str) -> int:
        """Packed integers of the field, at most."""
        if "contents." in name:
            return MAX_ELEMENTS
        return max(self.max_rows, MAX_LABELS if name == "labels" else 0)


def count_fields(raw: bytes, message: Descriptor, limits: FieldLimits) -> None:
    """Hold a serialised request to limits that no valid one exceeds.

    Raises:
        InvalidArgument: there is more of something than is allowed, which the error names, or the bytes are no message.
    """
    _Count(raw, limits).read(0, len(raw), message, "")


class _Field:
    """What matters here of a field's description."""

    def __init__(self, field: FieldDescriptor) -> None:
        self.name = field.name
        self.message = field.message_type
        self.is_text = field.type == FieldDescriptor.TYPE_STRING
        self.is_list = field.is_repeated and self.message is None
        self.has_integers = self.is_list and not self.is_text and field.type not in _COPIED


@cache
def _fields(message: Descriptor) -> Mapping[int, _Field]:
    return {field.number: _Field(field) for field in message.fields}


class _Count:
    """Goes over one message, and over those within it that are known."""

    def __init__(self, raw: bytes, limits: FieldLimits) -> None:
        self._raw = raw
        self._limits = limits
        self._left = limits.fields
        self._repeats: defaultdict[str, int] = defaultdict(int)
        self._integers: defaultdict[str, int] = defaultdict(int)

    def read(self, at: int, end: int, message: Descriptor, path: str) -> None:
        """Count the fields of a message from `at` to before `end`; `path` is what comes before their names."""
        raw, known, groups = self._raw, _fields(message), list[int]()
        while at < end:
            tag, at = (raw[at], at + 1) if raw[at] < 128 else self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            field = known.get(number) if not groups else None
            self._left -= 1
            if self._left < 0:
                name = f"{path}{field.name}" if field else f"{path}unknown fields"
                raise InvalidArgument(
                    name, f"over {self._limits.fields} fields in all, which is what a request may have"
                )
            if field is not None and not field.is_list:
                self._repeat(f"{path}{field.name}")
            if kind == _BYTES:
                size, start = (raw[at], at + 1) if at < end and raw[at] < 128 else self._varint(at, end)
                at = start + size
                if at > end:
                    raise not_a_message()
                if field is not None:
                    self._look_into(field, f"{path}{field.name}", start, at)
            elif kind == _VARINT:
                _, at = self._varint(at, end)
            elif kind in _SIZES:
                at += _SIZES[kind]
            elif kind == _GROUP:
                groups.append(number)
            elif kind != _GROUP_END or not groups or groups.pop() != number:
                raise not_a_message()
        if at > end or groups:
            raise not_a_message()

    def _look_into(self, field: _Field, name: str, start: int, end: int) -> None:
        if field.message is not None:
            self.read(start, end, field.message, f"{name}.")
        elif field.is_text and end - start > MAX_TEXT_BYTES:
            raise InvalidArgument(name, f"{end - start} bytes of text; {MAX_TEXT_BYTES} are allowed")
        elif field.has_integers:
            # Each ends in a byte whose highest bit is clear.
            count = int(np.count_nonzero(np.frombuffer(self._raw, np.int8, end - start, start) >= 0))
            self._integers[name] += count
            allowed = self._limits.integers(name)
            if self._integers[name] > allowed:
                raise InvalidArgument(name, f"{self._integers[name]} elements; at most {allowed} are allowed")

    def _repeat(self, name: str) -> None:
        self._repeats[name] += 1
        if self._repeats[name] > MAX_REPEATS:
            raise InvalidArgument(name, f"there more than {MAX_REPEATS} times, which is what a request may have")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at a place, and the place after it."""
        value, shift = 0, 0
        for place in range(at, min(at + _MAX_VARINT_BYTES, end)):
            byte = self._raw[place]
            if byte < 128:
                return value | byte << shift, place + 1
            value |= (byte & 127) << shift
            shift += 7
        raise not_a_message()


def not_a_message() -> InvalidArgument:
    """The error of bytes that are no message."""
    return InvalidArgument("request", "the bytes are not a message of this call's type")
