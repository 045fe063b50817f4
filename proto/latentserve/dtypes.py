"""Element types of tensors: NumPy's dtypes and their names in messages, in ONNX and in the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentserve.v1 import tensor_pb2


@dataclass(frozen=True, slots=True)
class ElementType:
    """One element type under all its names."""

    dtype: np.dtype[Any]
    """In native byte order."""
    code: tensor_pb2.DType
    """In a Tensor message, and in a manifest."""
    onnx: str
    """As onnxruntime calls the type of a graph's tensor."""
    oip: str
    """As the Open Inference Protocol calls it; its model configurations put "TYPE_" before."""
    oip_field: str
    """The field for elements that do not come as raw bytes there; empty where there is none."""

    @property
    def wire_dtype(self) -> np.dtype[Any]:
        """Little-endian, as every message has it."""
        return self.dtype.newbyteorder("<")


FLOAT32 = ElementType(np.dtype(np.float32), tensor_pb2.DTYPE_FLOAT32, "tensor(float)", "FP32", "fp32_contents")
FLOAT16 = ElementType(np.dtype(np.float16), tensor_pb2.DTYPE_FLOAT16, "tensor(float16)", "FP16", "")
UINT8 = ElementType(np.dtype(np.uint8), tensor_pb2.DTYPE_UINT8, "tensor(uint8)", "UINT8", "uint_contents")
INT64 = ElementType(np.dtype(np.int64), tensor_pb2.DTYPE_INT64, "tensor(int64)", "INT64", "int64_contents")

MESSAGE_TYPES = (FLOAT32, UINT8, FLOAT16, INT64)
"""What a Tensor message may hold."""

GRAPH_TYPES: Mapping[np.dtype[Any], ElementType] = {kind.dtype: kind for kind in (FLOAT32, UINT8, INT64)}
"""What the tensors of a bundle's graphs may hold."""
