"""The label input of a foreign conditional graph: integers or one-hot rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from latentserve_training.errors import ExportError
from latentserve_training.foreign.graph import ForeignGraph


@dataclass(frozen=True)
class LabelInput:
    """The input of a graph for labels from 0 to `count` - 1: integers, or float32 rows that are 1 at the label."""

    name: str
    count: int
    dtype: int
    """One of onnx.TensorProto's data types."""
    shape: tuple[int, ...]
    """The shape of one row."""

    @classmethod
    def of(cls, graph: ForeignGraph, name: str | None, count: int) -> Self | None:
        """The graph's input of that name, or None if no name is given.

        Raises:
            ExportError: there is none, its batch axis is fixed, or it takes labels in no form that is known.
        """
        if name is None:
            return None
        value = graph.input(name)
        dtype, shape = value.type.tensor_type.elem_type, graph.shape(name)
        integers = dtype in (TensorProto.INT64, TensorProto.INT32) and shape in ((), (1,))
        if shape is None or not (integers or (dtype == TensorProto.FLOAT and shape == (count,))):
            kind = TensorProto.DataType.Name(dtype).lower()
            sides = ", ".join(["batch", *(["?"] if shape is None else map(str, shape))])
            raise ExportError(
                f"{graph.role}: label input {name!r} is {kind} [{sides}]; it must be int64 or int32 [batch], or "
                f"float32 [batch, {count}] for one-hot rows"
            )
        return cls(name, count, dtype, shape)

    @property
    def one_hot(self) -> bool:
        """Whether a row is 1 at the label and 0 elsewhere."""
        return self.dtype == TensorProto.FLOAT

    def rows(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Labels int64 [n] as the input takes them."""
        if self.one_hot:
            rows = np.zeros((len(labels), self.count), np.float32)
            np.put_along_axis(rows, labels[:, np.newaxis], 1, axis=1)
            return rows
        return labels.astype(helper.tensor_dtype_to_np_dtype(self.dtype)).reshape(-1, *self.shape)
