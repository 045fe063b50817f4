"""An input of a foreign graph that is the same in every call, with the value that the description gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from latentserve_training.errors import ExportError
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.nodes import Nodes
from latentserve_training.foreign.tensor import signature


@dataclass(frozen=True)
class FixedInput:
    """The input's name and value, in its own element type."""

    name: str
    value: NDArray[Any]
    """The whole input, or one row of it."""
    has_rows: bool
    """Whether the input has a batch axis, along which the value is repeated."""

    @classmethod
    def of(cls, graph: ForeignGraph, name: str, value: Any) -> FixedInput:
        """The graph's input of that name with a described value.

        Raises:
            ExportError: there is none, its shape is open, or the value does not fit it.
        """
        port = graph.inputs.get(name)
        if port is None:
            graph.check_needed(name)
            raise ExportError(f"{graph.role}.inputs: no input {name!r}; there are {list(graph.inputs)}")
        where = f"{graph.role}.inputs: {name!r} is {signature(port)}"
        tensor = port.type.tensor_type
        sides = [axis.dim_value for axis in tensor.shape.dim]
        has_rows = sides[:1] == [0]
        row = sides[1:] if has_rows else sides
        if 0 in row:
            raise ExportError(f"{where}; of an input that is given a value, only the batch may be open")
        try:
            array = _cast(np.asarray(value), helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            fixed = np.broadcast_to(array, row) if tensor.HasField("shape") else array
        except (ValueError, TypeError, OverflowError) as error:
            raise ExportError(f"{where}; {_shown(value)} cannot be its value") from error
        return cls(name, np.ascontiguousarray(fixed).reshape(fixed.shape), has_rows)

    def rows(self, count: int) -> NDArray[Any]:
        """The input in a batch of `count` rows."""
        return np.repeat(self.value[np.newaxis], count, axis=0) if self.has_rows else self.value

    def feed(self, nodes: Nodes, source: str, target: str) -> None:
        """Add what gives the tensor `target` the value, in batches as large as those of the tensor `source`."""
        if not self.has_rows:
            nodes.hold(target, self.value)
            return
        count = nodes.add("Shape", source, start=0, end=1)
        shape = nodes.add("Concat", count, np.array(self.value.shape, np.int64), axis=0) if self.value.ndim else count
        nodes.rename(nodes.add("Expand", self.value, shape), target)


def fixed_inputs(graph: ForeignGraph, values: Mapping[str, Any] | None) -> tuple[FixedInput, ...]:
    """The inputs that the description gives values.

    Raises:
        ExportError: one does not fit the graph.
    """
    return tuple(FixedInput.of(graph, name, value) for name, value in (values or {}).items())


def _cast(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The array as `dtype`; raises ValueError where that changes it by more than the rounding of decimals."""
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "b") != (dtype.kind == "b"):
        raise ValueError
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
    same = np.isfinite(cast) if dtype.kind == "f" else cast == array
    if not np.all(same):
        raise ValueError
    return cast


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
