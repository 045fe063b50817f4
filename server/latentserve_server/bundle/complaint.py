"""Complaints about a manifest's JSON: which field, what it is, and what it must be.

protobuf's own errors name neither the field nor what is allowed, but the Python type that did not fit.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_SEARCHED = 1000
"""Items of a list among which the wrong one is looked for; no list of a manifest has as many, but for labels' names."""
_SHOWN = 60
_SCALARS: dict[int, str] = {
    FieldDescriptor.TYPE_STRING: "a text",
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_DOUBLE: "a number",
    FieldDescriptor.TYPE_FLOAT: "a number that a float32 holds",
    FieldDescriptor.TYPE_INT32: "a whole number from -2^31 to 2^31 - 1",
    FieldDescriptor.TYPE_INT64: "a whole number from -2^63 to 2^63 - 1",
    FieldDescriptor.TYPE_UINT32: "a whole number from 0 to 2^32 - 1",
    FieldDescriptor.TYPE_UINT64: "a whole number from 0 to 2^64 - 1",
}


def complaint(content: Any, kind: Any, place: str = "") -> str:
    """What is wrong with content that is no message of the descriptor `kind`; `place` is the field that holds it."""
    if kind.full_name == "google.protobuf.Timestamp":
        return _must_be(content, 'a time in UTC, such as "2026-01-31T12:00:00Z"', place)
    if not isinstance(content, dict):
        return _must_be(content, "an object", place)
    known = {name: field for field in kind.fields for name in (field.name, field.json_name)}
    empty = GetMessageClass(kind)()
    for name, value in content.items():
        inner = f"{place}.{name}" if place else name
        if name not in known:
            return f"{_cut(inner)} is not a field; there are {', '.join(field.name for field in kind.fields)}"
        if not _parses({name: value}, empty):
            return _field_complaint(value, known[name], empty, inner)
    return f"{place or 'it'} cannot be read as a whole; a field may be there under two names"


def shown(value: Any) -> str:
    """The value as JSON, or what it is where that is long or deep."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}" if value else json.dumps(value)
    return _cut(json.dumps(value))


def _field_complaint(value: Any, field: FieldDescriptor, empty: Message, place: str) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        content = field.message_type.fields_by_name["value"]
        if not isinstance(value, dict):
            return _must_be(value, f"an object whose values are each {_allowed(content)}", place)
        wrong = next((key for key, one in value.items() if not _parses({field.name: {key: one}}, empty)), "")
        return _must_be(value.get(wrong), _allowed(content), f"{place}.{wrong}")
    if not field.is_repeated:
        return _one_complaint(value, field, place)
    if not isinstance(value, list):
        return _must_be(value, "a list", place)
    if len(value) > _SEARCHED:
        return f"{place} is a list of {len(value)}, and one of them is not {_allowed(field)} as it should be"
    wrong = next(index for index, one in enumerate(value) if not _parses({field.name: [one]}, empty))
    return _one_complaint(value[wrong], field, f"{place}[{wrong}]")


def _one_complaint(value: Any, field: FieldDescriptor, place: str) -> str:
    if field.message_type is not None and value is not None:
        return complaint(value, field.message_type, place)
    return _must_be(value, _allowed(field), place)


def _allowed(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return f"one of {', '.join(field.enum_type.values_by_name)}"
    return _SCALARS.get(field.type, "an object")


def _parses(content: Any, kind: Message) -> bool:
    try:
        json_format.ParseDict(content, type(kind)())
    except Exception:  # of Python's and protobuf's kinds, whichever the value meets first
        return False
    return True


def _must_be(value: Any, allowed: str, place: str) -> str:
    return f"{_cut(place) or 'it'} is {shown(value)}; it must be {allowed}"


def _cut(text: str) -> str:
    plain = text.encode("unicode_escape").decode("ascii")
    return plain if len(plain) <= _SHOWN else f"{plain[: _SHOWN - 3]}..."
