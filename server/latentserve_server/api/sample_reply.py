"""A Sample's reply, serialised around its pixels.

By way of messages, the pixels would be copied four times: into the tensor, its images, the response and its bytes.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from latentserve.dtypes import MESSAGE_TYPES
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import tensor_pb2

AS_COMPUTED = frozenset({pb.IMAGE_FORMAT_UNSPECIFIED, pb.IMAGE_FORMAT_FLOAT32, pb.IMAGE_FORMAT_UINT8})
"""The formats that a reply holds as the decoder gave them."""

_IMAGES = pb.SampleResponse.DESCRIPTOR.fields_by_name["images"].number
_TENSOR = pb.Images.DESCRIPTOR.fields_by_name["tensor"].number
_DATA = tensor_pb2.Tensor.DESCRIPTOR.fields_by_name["data"].number
_CODES = {str(kind.dtype.char): kind.code for kind in MESSAGE_TYPES}
_WIRE_DTYPES = {str(kind.dtype.char): kind.wire_dtype for kind in MESSAGE_TYPES}
_BYTES = 2
"""The wire type of fields that say how long they are."""


def sample_reply(images: NDArray[np.uint8] | NDArray[np.float32], rest: pb.SampleResponse) -> bytes:
    """The bytes of a SampleResponse with the images [n, channels, height, width], as they are, and the other fields."""
    pixels = np.ascontiguousarray(images, _WIRE_DTYPES[images.dtype.char])
    return b"".join((_before_pixels(images.dtype.char, images.shape), pixels.data, rest.SerializeToString()))


@lru_cache(maxsize=1024)
def _before_pixels(dtype: str, shape: tuple[int, ...]) -> bytes:
    """A SampleResponse up to the pixels of such a tensor, with which its images end."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    head = tensor_pb2.Tensor(dtype=_CODES[dtype], shape=shape).SerializeToString() + _begin(_DATA, size)
    images = _begin(_TENSOR, len(head) + size) + head
    return _begin(_IMAGES, len(images) + size) + images


def _begin(field: int, size: int) -> bytes:
    """The tag of a field of bytes, and its length."""
    return _varint(field << 3 | _BYTES) + _varint(size)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
