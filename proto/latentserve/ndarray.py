"""Tensor messages as NumPy arrays and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.contract import MAX_LATENT_SIDES
from latentserve.dtypes import MESSAGE_TYPES
from latentserve.v1 import tensor_pb2

MAX_AXES = 1 + MAX_LATENT_SIDES
"""Axes of a tensor, at most: rows of the latents of the most sides, far fewer than numpy's own bound."""

MAX_EXTENT = 2**31 - 1
"""Extent of one axis, at most: the bytes of a message are fewer."""

_MAX_BYTES = 2**63 - 1

_WIRE_DTYPES = {kind.code: kind.wire_dtype for kind in MESSAGE_TYPES}
_WIRE_CODES = {dtype: code for code, dtype in _WIRE_DTYPES.items()}


class TensorError(ValueError):
    """A Tensor whose dtype, shape and data do not fit together, or an array whose dtype has no wire form."""


def to_ndarray(tensor: tensor_pb2.Tensor) -> NDArray[Any]:
    """The array that `tensor` describes: native byte order, C order, read-only where it shares the message's bytes.

    Raises:
        TensorError: the dtype is unknown, there are over `MAX_AXES` axes, an extent is negative or
            over `MAX_EXTENT`, their product is more than an array can hold even without those that are 0, or data is
            not product(shape) elements long.
    """
    dtype = _WIRE_DTYPES.get(tensor.dtype)
    if dtype is None:
        known = ", ".join(tensor_pb2.DType.Name(code) for code in _WIRE_DTYPES)
        raise TensorError(f"dtype {tensor.dtype} is not one of {known}")
    if len(tensor.shape) > MAX_AXES:
        raise TensorError(f"shape has {len(tensor.shape)} axes; at most {MAX_AXES} are allowed")
    shape = tuple(tensor.shape)
    if any(extent < 0 for extent in shape):
        raise TensorError(f"shape {list(shape)} has a negative extent")
    if any(extent > MAX_EXTENT for extent in shape):
        raise TensorError(f"shape {list(shape)} has an extent over {MAX_EXTENT}")
    if math.prod(extent for extent in shape if extent) * dtype.itemsize > _MAX_BYTES:
        raise TensorError(f"shape {list(shape)} has more elements than an array can, its zeros aside")
    expected = math.prod(shape) * dtype.itemsize
    if len(tensor.data) != expected:
        raise TensorError(f"data has {len(tensor.data)} bytes; {dtype.name} of shape {list(shape)} takes {expected}")
    return np.frombuffer(tensor.data, dtype=dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def from_ndarray(array: NDArray[Any]) -> tensor_pb2.Tensor:
    """The Tensor that carries `array` (float32, float16, uint8 or int64, any shape and memory layout).

    Raises:
        TensorError: the dtype has no wire form.
    """
    wire = array.dtype.newbyteorder("<")
    code = _WIRE_CODES.get(wire)
    if code is None:
        known = ", ".join(dtype.name for dtype in _WIRE_CODES)
        raise TensorError(f"dtype {array.dtype.name} is not one of {known}")
    return tensor_pb2.Tensor(dtype=code, shape=array.shape, data=array.astype(wire, copy=False).tobytes())
