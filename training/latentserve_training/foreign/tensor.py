"""The tensors of a foreign graph: element types, shapes of their rows, and which input is meant."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from latentserve_training.errors import ExportError
from latentserve_training.foreign.graph import ForeignGraph

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
"""Element types of latents and posteriors."""
PIXELS = (*FLOATS, TensorProto.UINT8)
"""Element types of images."""


def dtype_name(dtype: int) -> str:
    """The element type, one of onnx.TensorProto's, as NumPy calls it."""
    return str(helper.tensor_dtype_to_np_dtype(dtype)) if dtype else "of an unknown type"


def dtype_of(graph: ForeignGraph, name: str, allowed: Sequence[int]) -> int:
    """The element type of a tensor; float32 where the file does not tell.

    Raises:
        ExportError: it is none of the allowed ones.
    """
    value = graph.inferred.get(name)
    found = TensorProto.FLOAT if value is None else value.type.tensor_type.elem_type
    _require(graph, f"{name!r}", found, allowed)
    return int(found)


def main_input(
    graph: ForeignGraph, name: str | None, key: str, others: Collection[str], allowed: Sequence[int]
) -> onnx.ValueInfoProto:
    """The input called `name`, or the only one that is none of the `others`, which are described already.

    `key` is the option that names it, such as "decoder.latent".

    Raises:
        ExportError: it is not there, or not the only one; it has another element type, or a batch axis that is fixed.
    """
    left = [other for other in graph.inputs if other not in others]
    if name is not None and name in left:
        left.remove(name)
        if left:
            raise ExportError(f"{graph.role}: {_without_value(graph, left)}")
    elif name is not None or len(left) != 1:
        graph.check_needed(name)
        wanted = (f", {name!r}" if name else "") + (f", beside {', '.join(map(repr, others))}" if others else "")
        named = f"; name it in {key}, and give others a value: {_lines(graph, left[1:])}" * (len(left) > 1 and not name)
        raise ExportError(f"{graph.role}: inputs are {list(graph.inputs)}; there must be one{wanted}{named}")
    value = graph.input(name or left[0])
    _require(graph, f"input {value.name!r}", value.type.tensor_type.elem_type, allowed)
    return value


def row_shape(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which an input takes rows of `shape`: its own, as far as it says and their size allows."""
    sides = [axis.dim_value for axis in value.type.tensor_type.shape.dim[1:]]
    if 0 not in sides:
        return tuple(sides)
    known, size = math.prod(side for side in sides if side), math.prod(shape)
    if sides.count(0) == 1 and size % known == 0:
        return tuple(side or size // known for side in sides)
    return shape if len(sides) == len(shape) else (size,)


def as_rows(array: NDArray[Any], count: int, shape: Sequence[int], where: str) -> NDArray[Any]:
    """The array as [count, *shape]; its sides may be those of `shape`, or products of such as lie side by side.

    Raises:
        ExportError: it has another size, or sides.
    """
    found = array.shape[1:]
    if array.size != count * math.prod(shape) or not _regroups(found, shape):
        raise ExportError(f"{where} is {list(array.shape)} for {count} rows; it must be {[count, *shape]}")
    return array.reshape(count, *shape)


def _regroups(found: Sequence[int], asked: Sequence[int]) -> bool:
    """Whether one of two shapes of as many values comes of the other when neighbouring sides are made one."""
    ends, others = ({*accumulate(shape, operator.mul)} - {1} for shape in (found, asked))
    return ends <= others or others <= ends


def as_dtype(values: NDArray[Any], dtype: int) -> NDArray[Any]:
    """The values as the element type, one of onnx.TensorProto's; for whole numbers rounded, half to even."""
    target = helper.tensor_dtype_to_np_dtype(dtype)
    return (np.rint(values) if np.issubdtype(target, np.integer) else values).astype(target)


def require_size(graph: ForeignGraph, name: str, size: int, what: str) -> None:
    """Raise ExportError if the tensor is known to have a number of values per row other than `what` has."""
    shape = graph.shape(name)
    if shape is not None and math.prod(shape) != size:
        raise ExportError(f"{graph.role}: {name!r} is {batch_of(shape)}, but {what} has {size} values")


def batch_of(shape: Sequence[object]) -> str:
    """The shape of a tensor of such rows, such as "[batch, 3]"."""
    return f"[{', '.join(['batch', *map(str, shape)])}]"


def signature(value: onnx.ValueInfoProto) -> str:
    """The element type and shape, such as "float32 [batch, 3]"; "?" for a side that the file does not give."""
    tensor = value.type.tensor_type
    sides = [axis.dim_value or axis.dim_param or "?" for axis in tensor.shape.dim]
    return f"{dtype_name(tensor.elem_type)} [{', '.join(map(str, sides))}]"


def _require(graph: ForeignGraph, what: str, dtype: int, allowed: Sequence[int]) -> None:
    if dtype not in allowed:
        *most, last = map(dtype_name, allowed)
        raise ExportError(f"{graph.role}: {what} is {dtype_name(dtype)}; it must be {', '.join(most)} or {last}")


def _without_value(graph: ForeignGraph, names: Sequence[str]) -> str:
    told = ", ".join(f"{name!r} ({signature(graph.inputs[name])})" for name in names)
    return f"no value for input {told}; add to {graph.role}, with values of yours: {_lines(graph, names)}"


def _lines(graph: ForeignGraph, names: Sequence[str]) -> str:
    """What gives the inputs values, as a line of YAML, or makes noise of those of a decoder that could be."""
    zeros = {"b": "false", "i": "0", "u": "0"}
    dtypes = [helper.tensor_dtype_to_np_dtype(graph.inputs[name].type.tensor_type.elem_type) for name in names]
    values = [f"{name}: {zeros.get(dtype.kind, '0.0')}" for name, dtype in zip(names, dtypes, strict=True)]
    shaped = [len(graph.inputs[name].type.tensor_type.shape.dim) > 1 for name in names]
    noise = [name for name, dtype, rows in zip(names, dtypes, shaped, strict=True) if dtype.kind == "f" and rows]
    drawn = (
        f", or `noise: [{', '.join(noise)}]` if it is drawn anew for every image"
        if graph.role == "decoder" and noise
        else ""
    )
    return f"`inputs: {{{', '.join(values)}}}`{drawn}"
