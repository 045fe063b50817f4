"""Requests that no client of ours sends: fields at and beyond their bounds, and bytes that are hardly a message."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

_UNSIGNED = (0, 1, 2, 3, 64, 255, 4096, 65537)
_SIGNED = (*_UNSIGNED, -1, -(1 << 31))
_NUMBERS: dict[int, tuple[Any, ...]] = {
    Field.CPPTYPE_INT32: (*_SIGNED, (1 << 31) - 1),
    Field.CPPTYPE_INT64: (*_SIGNED, 1 << 32, 1 << 48, 1 << 53, (1 << 63) - 1, -(1 << 63)),
    Field.CPPTYPE_UINT32: (*_UNSIGNED, 1 << 31, (1 << 32) - 1),
    Field.CPPTYPE_UINT64: (*_UNSIGNED, 1 << 48, 1 << 53, 1 << 63, (1 << 64) - 1),
    Field.CPPTYPE_FLOAT: (0.0, -0.0, 1.0, -1.0, 0.5, 4.0, 1e-45, 3.4e38, float("nan"), float("inf"), -float("inf")),
    Field.CPPTYPE_DOUBLE: (0.0, 1.0, -1.0, 1e308, float("nan"), float("inf")),
    Field.CPPTYPE_BOOL: (False, True),
}
_WORDS = (
    "",
    "a",
    "../m",
    "/",
    ".",
    "m@stable",
    "1",
    "-1",
    "0",
    "é" * 99,
    "x" * 129,
    "x" * 10_000,
    "a\nb",
    "a\0b",
    "FP32",
)
_MOST_REPEATED = 2_000


def mutated(request: Message, choice: random.Random, words: tuple[str, ...]) -> bytes:
    """The bytes of the request after one to four changes of its fields, or of its bytes, or of both.

    `words` are texts that mean something here, such as the names of models.
    """
    changed = type(request)()
    changed.CopyFrom(request)
    by_field, by_byte = choice.choice(((1, 0), (2, 0), (4, 0), (0, 1), (0, 4), (1, 1)))
    for _ in range(by_field):
        _change_field(choice.choice(list(_messages(changed))), choice, words)
    content = changed.SerializeToString()
    for _ in range(by_byte):
        content = choice.choice(_BYTE_CHANGES)(content, choice)
    return content


def _messages(message: Message) -> Iterator[Message]:
    """The message and those within it."""
    yield message
    for field, value in message.ListFields():
        if field.type != Field.TYPE_MESSAGE:
            continue
        parts: Any = value if field.is_repeated else [value]
        if isinstance(parts, dict) or hasattr(parts, "keys"):
            continue
        for part in list(parts)[:8]:
            yield from _messages(part)


def _change_field(message: Message, choice: random.Random, words: tuple[str, ...]) -> None:
    """Set, repeat or take away one field, whether it is set or not."""
    fields = [field for field in message.DESCRIPTOR.fields if not _is_map(field)]
    if not fields:
        return
    field = choice.choice(fields)
    if choice.random() < 0.15:
        message.ClearField(field.name)
    elif field.is_repeated:
        _change_repeated(getattr(message, field.name), field, choice, words)
    elif field.type == Field.TYPE_MESSAGE:
        inner = getattr(message, field.name)
        inner.SetInParent()
        _change_field(inner, choice, words)
    else:
        setattr(message, field.name, _value(field, choice, words))


def _change_repeated(values: Any, field: Any, choice: random.Random, words: tuple[str, ...]) -> None:
    turn = choice.random()
    if values and turn < 0.3:
        del values[choice.randrange(len(values)) :]
    elif values and turn < 0.6:
        times = choice.choice((1, 2, 64, _MOST_REPEATED))
        values.extend(([choice.choice(values)] * times)[:_MOST_REPEATED])
    elif field.type == Field.TYPE_MESSAGE:
        _change_field(values.add(), choice, words)
    else:
        values.append(_value(field, choice, words))


def _value(field: Any, choice: random.Random, words: tuple[str, ...]) -> Any:
    if field.cpp_type == Field.CPPTYPE_ENUM:
        return choice.choice([*(value.number for value in field.enum_type.values), 99])
    if field.type == Field.TYPE_STRING:
        return choice.choice((*_WORDS, *words))
    if field.type == Field.TYPE_BYTES:
        return choice.randbytes(choice.choice((0, 1, 3, 4, 48, 3072)))
    return choice.choice(_NUMBERS[field.cpp_type])


def _is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _flip(content: bytes, choice: random.Random) -> bytes:
    if not content:
        return choice.randbytes(3)
    place = choice.randrange(min(len(content), 200) if choice.random() < 0.7 else len(content))
    return content[:place] + bytes([content[place] ^ 1 << choice.randrange(8)]) + content[place + 1 :]


def _cut(content: bytes, choice: random.Random) -> bytes:
    return content[: choice.randrange(len(content) + 1)]


def _take_out(content: bytes, choice: random.Random) -> bytes:
    place = choice.randrange(len(content) + 1)
    return content[:place] + content[place + choice.choice((1, 2, 8)) :]


def _put_in(content: bytes, choice: random.Random) -> bytes:
    place = choice.randrange(len(content) + 1)
    return content[:place] + choice.randbytes(choice.choice((1, 2, 10))) + content[place:]


def _say_twice(content: bytes, choice: random.Random) -> bytes:
    place = choice.randrange(len(content) + 1)
    return content + content[place : place + 1_000]


_BYTE_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flip, _cut, _take_out, _put_in, _say_twice)
