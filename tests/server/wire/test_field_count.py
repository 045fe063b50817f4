"""Fields are counted before a message is parsed, as the parser would find them."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given
from hypothesis import strategies as st

from latentserve.contract import MAX_LABELS
from latentserve.oip import inference_pb2 as oip
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.errors import InvalidArgument
from latentserve_server.wire.admission import FREE_BYTES, check_fields
from latentserve_server.wire.field_count import MAX_ELEMENTS, MAX_REPEATS, MAX_TEXT_BYTES, FieldLimits

TYPES: list[type[Message]] = [
    pb.SampleRequest,
    pb.EncodeRequest,
    pb.InterpolateRequest,
    pb.TraverseRequest,
    oip.ModelInferRequest,
    oip.RepositoryModelLoadRequest,
]
ROWS = 100
LIMITS = FieldLimits(ROWS)
FILLER = b"\xa2\x06" + b"\x80\x20" + bytes(FREE_BYTES)
"""An unknown field that brings a message over the bytes that are not looked into."""
VARINTS = st.integers(0, 2**64 - 1)


def varint(value: int) -> bytes:
    """The number as it is written, lowest seven bits first."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, kind: int, body: bytes) -> bytes:
    return varint(number << 3 | kind) + (varint(len(body)) if kind == 2 else b"") + body


def wire(depth: int) -> st.SearchStrategy[bytes]:
    """Messages: well formed as a rule, of any fields, with groups, and cut short or spoilt at times."""
    numbers = st.integers(0, 12) | st.sampled_from([100, 2**28, 2**29])
    bodies = st.binary(max_size=8) | st.lists(VARINTS, max_size=4).map(lambda values: b"".join(map(varint, values)))
    fields = st.builds(field, numbers, st.just(0), VARINTS.map(varint)) | st.builds(
        field, numbers, st.just(2), bodies | (wire(depth - 1) if depth else bodies)
    )
    fields |= st.builds(field, numbers, st.just(1), st.binary(min_size=8, max_size=8))
    fields |= st.builds(field, numbers, st.just(5), st.binary(min_size=4, max_size=4))
    if depth:
        grouped = st.builds(lambda n, inner: field(n, 3, b"") + inner + field(n, 4, b""), numbers, wire(depth - 1))
        fields |= grouped | st.builds(field, numbers, st.sampled_from([3, 4, 6, 7]), st.just(b""))
    return st.lists(fields, max_size=6).map(b"".join) | st.binary(max_size=12)


def is_message(raw: bytes, kind: type[Message]) -> bool:
    try:
        kind.FromString(raw)
    except DecodeError:
        return False
    return True


@given(st.sampled_from(TYPES), wire(3))
@example(oip.ModelInferRequest, field(1, 2, b"\xff"))
def test_whatever_a_parser_takes_is_taken(kind: Any, raw: bytes) -> None:
    raw += FILLER
    if is_message(raw, kind):
        check_fields(raw, kind.DESCRIPTOR, LIMITS)


def elements(message: Message) -> int:
    """The messages, integers and texts that were built, all in all."""
    total = 1
    for description, value in message.ListFields():
        if not description.is_repeated:
            total += elements(value) if description.message_type else 1
        elif description.message_type and description.message_type.GetOptions().map_entry:
            total += 2 * len(value)
        elif description.message_type:
            total += sum(map(elements, value))
        elif description.type not in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
            total += len(value)
    return total


MANY = st.integers(1, 3000)


@given(st.sampled_from(TYPES), st.lists(st.tuples(wire(2), MANY), max_size=4))
@example(pb.InterpolateRequest, [(field(2, 2, field(2, 2, field(1, 2, b"\x01" * 90))), 60)])
def test_what_is_taken_is_of_a_bounded_number_of_parts(kind: Any, runs: list[tuple[bytes, int]]) -> None:
    raw = b"".join(part * times for part, times in runs) + FILLER
    try:
        check_fields(raw, kind.DESCRIPTOR, LIMITS)
    except InvalidArgument:
        return
    if is_message(raw, kind):
        contents = 8 * MAX_ELEMENTS if kind is oip.ModelInferRequest else 0
        assert elements(kind.FromString(raw)) <= 2 * LIMITS.fields + 4 * ROWS + MAX_LABELS + contents


def points(body: bytes) -> bytes:
    """An InterpolateRequest whose points `from` are seeds of this body."""
    return field(PATHS["from"], 2, field(PATHS["seeds"], 2, body))


PATHS = {
    "from": pb.InterpolateRequest.DESCRIPTOR.fields_by_name["from"].number,
    "seeds": pb.Points.DESCRIPTOR.fields_by_name["seeds"].number,
    "images": pb.EncodeRequest.DESCRIPTOR.fields_by_name["images"].number,
    "encoded": pb.Images.DESCRIPTOR.fields_by_name["encoded"].number,
    "labels": pb.SampleRequest.DESCRIPTOR.fields_by_name["labels"].number,
}
INPUTS, PARAMETERS, CONTENTS, UINTS, SHAPE = 5, 4, 5, 4, 3


def files(count: int) -> bytes:
    return field(PATHS["images"], 2, field(PATHS["encoded"], 2, field(1, 2, b"") * count))


BOUNDS: dict[str, tuple[Any, int, Any, str]] = {
    "tensors": (oip.ModelInferRequest, MAX_REPEATS, lambda n: field(INPUTS, 2, b"") * n, "inputs: there more than 64"),
    "parameters": (
        oip.ModelInferRequest,
        MAX_REPEATS,
        lambda n: field(PARAMETERS, 2, field(1, 2, b"k")) * n,
        "parameters: there more than 64 times",
    ),
    "a field that is no list": (
        pb.SampleRequest,
        MAX_REPEATS,
        lambda n: field(2, 0, b"\x01") * n,
        "count: there more than 64 times",
    ),
    "points": (
        pb.InterpolateRequest,
        MAX_REPEATS,
        lambda n: field(PATHS["from"], 2, b"") * n,
        "from: there more than 64 times",
    ),
    "packed seeds": (
        pb.InterpolateRequest,
        ROWS,
        lambda n: points(field(1, 2, varint(2**64 - 1) * n)),
        "from.seeds.seeds: 101 elements; at most 100 are allowed",
    ),
    "seeds packed by threes": (
        pb.InterpolateRequest,
        ROWS // 3,
        lambda n: points(field(1, 2, b"\x01\x02\x03") * n),
        "from.seeds.seeds: 102 elements; at most 100 are allowed",
    ),
    "labels": (
        pb.SampleRequest,
        MAX_LABELS,
        lambda n: field(PATHS["labels"], 2, b"\x01" * n),
        "labels: 65537 elements; at most 65536 are allowed",
    ),
    "axes": (
        oip.ModelInferRequest,
        ROWS,
        lambda n: field(INPUTS, 2, field(SHAPE, 2, b"\x01" * n)),
        "inputs.shape: 101 elements; at most 100 are allowed",
    ),
    "typed contents": (
        oip.ModelInferRequest,
        MAX_ELEMENTS,
        lambda n: field(INPUTS, 2, field(CONTENTS, 2, field(UINTS, 2, b"\x01" * n))),
        "inputs.contents.uint_contents: 1048577 elements; at most 1048576 are allowed",
    ),
    "files": (
        pb.EncodeRequest,
        LIMITS.fields - 3,  # the two messages around them, and FILLER
        files,
        "unknown fields: over 1424 fields in all, which is what a request may have",
    ),
    "a text": (
        pb.SampleRequest,
        MAX_TEXT_BYTES,
        lambda n: field(1, 2, field(1, 2, b"n" * n)),
        "model.name: 65537 bytes of text; 65536 are allowed",
    ),
}


@pytest.mark.parametrize(("kind", "most", "make", "message"), BOUNDS.values(), ids=BOUNDS.keys())
def test_a_bound_is_reached_and_not_passed(kind: Any, most: int, make: Any, message: str) -> None:
    check_fields(make(most) + FILLER, kind.DESCRIPTOR, LIMITS)
    with pytest.raises(InvalidArgument) as caught:
        check_fields(make(most + 1) + FILLER, kind.DESCRIPTOR, LIMITS)
    assert str(caught.value).startswith(message)


SPOILT = {
    "a length beyond the end": field(1, 2, b"abc")[:-1],
    "a tag cut short": b"\x80",
    "a tag of eleven bytes": b"\x80" * 10 + b"\x01",
    "a number cut short": b"\x10\xff",
    "eight bytes cut short": field(100, 1, b"1234567"),
    "four bytes cut short": field(100, 5, b"123"),
    "a group without an end": field(100, 3, b""),
    "an end without a group": field(100, 4, b""),
    "the end of another group": field(100, 3, b"") + field(101, 4, b""),
    "a kind that there is not": field(100, 6, b""),
    "a message cut short within": field(1, 2, b"\x0a\x05ab"),
}


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT.keys())
def test_what_is_no_message_is_refused_by_both(spoilt: bytes) -> None:
    raw = FILLER + spoilt
    with pytest.raises(InvalidArgument, match="request: the bytes are not a message of this call's type"):
        check_fields(raw, pb.SampleRequest.DESCRIPTOR, LIMITS)
    assert not is_message(raw, pb.SampleRequest)


def test_a_short_message_is_not_looked_into() -> None:
    check_fields(field(INPUTS, 2, b"") * 1000, oip.ModelInferRequest.DESCRIPTOR, LIMITS)
