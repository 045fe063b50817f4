"""Models without their large weights, which stay in the files they came from until a bundle takes them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from latentserve_training.errors import ExportError
from latentserve_training.export.onnx_model import tensors

SMALL_BYTES = 1 << 10
"""Tensors below it stay in the graph: among them are those that say shapes, which a runtime looks for there."""

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""Numbers of fields: of ModelProto, of GraphProto and of TensorProto."""
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
"""Kinds of fields in protobuf's encoding."""
_WHOLE_BYTES = 1 << 20
"""Files up to this size are parsed as they are."""
_BINARY = (".onnx", ".pb", ".onnx_model", "")
"""Endings of names for which onnx reads protobuf's binary encoding, among others."""


def read_outline(path: Path) -> tuple[onnx.ModelProto, set[str]]:
    """The model in the file, and the names of the files that have more of its values.

    The values of large weights are external ones: they are left in that file, or in those others.

    Raises:
        OSError: a file cannot be read. ExportError: weights lie where they may not. Exception: it is not ONNX.
    """
    if path.stat().st_size <= _WHOLE_BYTES or path.suffix.lower() not in _BINARY:
        model = onnx.load(path, load_external_data=False)
    else:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            model = onnx.ModelProto.FromString(_without_weights(content, path.name))
    large = {tensor.name for tensor in model.graph.initializer if _bytes(tensor) >= SMALL_BYTES}
    others = set[str]()
    for tensor in tensors(model):
        if is_outside(tensor):
            _require_beside(path, tensor)
            others.add(place(tensor)[0])
            if tensor.name not in large:
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
                tensor.data_location = TensorProto.DEFAULT
                del tensor.external_data[:]
    return model, others - {path.name}


def is_outside(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's values are not in the model."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def outside_bytes(model: onnx.ModelProto) -> int:
    """How many bytes of the graph's weights are not in the model."""
    return sum(_bytes(tensor) for tensor in model.graph.initializer if is_outside(tensor))


def place(tensor: onnx.TensorProto) -> tuple[str, int, int]:
    """The file's name, the offset and the number of bytes of a tensor's values."""
    settings = {entry.key: entry.value for entry in tensor.external_data}
    return settings["location"], int(settings.get("offset", 0)), int(settings.get("length", _bytes(tensor)))


def move(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Say where the tensor's values are."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def with_weights_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose weights that are elsewhere are inputs, for what looks at everything but their values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    outside = [tensor for tensor in copy.graph.initializer if is_outside(tensor)]
    inside = [tensor for tensor in copy.graph.initializer if not is_outside(tensor)]
    fed = {value.name for value in copy.graph.input}
    copy.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in outside
        if tensor.name not in fed
    )
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(inside)
    return copy


def _bytes(tensor: onnx.TensorProto) -> int:
    bits = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize if tensor.data_type != TensorProto.STRING else 0
    return int(np.prod(tensor.dims, dtype=np.int64)) * bits


def _require_beside(path: Path, tensor: onnx.TensorProto) -> None:
    """Raise ExportError unless the tensor's file lies beside the model, or below."""
    location, offset, length = place(tensor)
    file = (path.parent / location).resolve()
    if not file.is_relative_to(path.parent.resolve()):
        raise ExportError(f"{path}: {tensor.name!r} lies in {location!r}, which is not beside the file or below")
    if not file.is_file():
        raise ExportError(f"{path}: {tensor.name!r} lies in {location!r}, which is not there")
    if file.stat().st_size < offset + length:
        where = f"{length} bytes from {offset} on in {location!r}"
        raise ExportError(f"{path}: {tensor.name!r} has {where}, which ends before")


def _without_weights(content: mmap.mmap, name: str) -> bytes:
    """The encoded model, in which large raw data of the graph's initializers are said to be where they are."""
    model = bytearray()
    for number, start, first, end in _fields(content, 0, len(content)):
        if number != _GRAPH:
            model += content[start:end]
            continue
        graph = bytearray()
        for inner, inner_start, inner_first, inner_end in _fields(content, first, end):
            if inner == _INITIALIZER and inner_end - inner_first >= SMALL_BYTES:
                graph += _framed(_INITIALIZER, _moved(content, inner_first, inner_end, name))
            else:
                graph += content[inner_start:inner_end]
        model += _framed(_GRAPH, bytes(graph))
    return bytes(model)


def _moved(content: mmap.mmap, first: int, end: int, name: str) -> bytes:
    """The encoded tensor without its raw data, if they are large."""
    rest, places = bytearray(), list[tuple[int, int]]()
    for number, start, value, stop in _fields(content, first, end):
        if number == _RAW_DATA and stop - value >= SMALL_BYTES:
            places.append((value, stop - value))
        else:
            rest += content[start:stop]
    tensor = TensorProto.FromString(bytes(rest))
    if len(places) == 1:
        move(tensor, name, *places[0])
        return tensor.SerializeToString()
    return content[first:end]


def _fields(content: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The number of each field of a message, and where the field, its value and both end begin.

    Raises:
        ValueError: it is not protobuf's encoding.
    """
    while position < end:
        start = position
        key, position = _varint(content, position)
        kind, first = key & 7, position
        if kind == _VARINT:
            _, position = _varint(content, position)
        elif kind == _BYTES:
            length, first = _varint(content, position)
            position = first + length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            position += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError("not protobuf's encoding")
        if position > end:
            raise ValueError("not protobuf's encoding: a field ends beyond its message")
        yield key >> 3, start, first, position


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
        if shift > 63:
            raise ValueError("not protobuf's encoding")


def _framed(number: int, value: bytes) -> bytes:
    """A field of bytes, encoded."""
    return _number(number << 3 | _BYTES) + _number(len(value)) + value


def _number(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
