"""The label input of a foreign conditional graph: integers, one-hot rows or embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from latentserve_training.errors import ExportError
from latentserve_training.export.digest import Digest
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.nodes import Nodes
from latentserve_training.foreign.tensor import FLOATS, batch_of, dtype_name


@dataclass(frozen=True)
class LabelInput:
    """The input of a graph for labels from 0 to `count` - 1: integers, or a row of floats for each label."""

    name: str
    count: int
    dtype: int
    """One of onnx.TensorProto's data types."""
    shape: tuple[int, ...]
    """The shape of one row."""
    embeddings: NDArray[Any] | None = None
    """The rows [count, *shape] of all labels, where they are floats but not 1 at the label and 0 elsewhere."""
    embeddings_sha256: str = ""
    """Digest of their file's bytes, in hexadecimal."""

    @classmethod
    def of(
        cls, graph: ForeignGraph, name: str | None, table: Path | None, folder: Path, count: int
    ) -> LabelInput | None:
        """The graph's input of that name, or None without one; `table` are its embeddings, a file in `folder`.

        Raises:
            ExportError: there is none, its batch axis is fixed, it takes labels in no form that is known, or the
                embeddings do not fit it.
        """
        if name is None:
            return None
        value = graph.input(name)
        dtype, shape = value.type.tensor_type.elem_type, graph.shape(name)
        sides = batch_of(["?"] if shape is None else shape)
        where = f"{graph.role}: label input {name!r} is {dtype_name(dtype)} {sides}"
        if table is not None:
            if shape is None or dtype not in FLOATS:
                raise ExportError(f"{where}; with label_embeddings it must be floats of a shape that is known")
            path = folder / table
            rows = _embeddings(path, (count, *shape), dtype, graph.role)
            return cls(name, count, dtype, shape, rows, Digest([path]).hexadecimal())
        integers = dtype in (TensorProto.INT64, TensorProto.INT32) and shape in ((), (1,))
        if shape is None or not (integers or (dtype in FLOATS and shape == (count,))):
            raise ExportError(
                f"{where}; it must be int64 or int32 [batch], or float32 [batch, {count}] for one-hot rows; rows of "
                "other numbers are given by label_embeddings"
            )
        return cls(name, count, dtype, shape)

    def rows(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Labels int64 [n] as the input takes them."""
        dtype = helper.tensor_dtype_to_np_dtype(self.dtype)
        if self.embeddings is not None:
            return np.asarray(self.embeddings[labels])
        if self.dtype in FLOATS:
            return _one_hot(labels, self.count).astype(dtype)
        return labels.astype(dtype).reshape(-1, *self.shape)

    def feed(self, nodes: Nodes, labels: str) -> str:
        """Add what turns labels int64 [batch] into what the input takes."""
        if self.embeddings is not None:
            return nodes.add("Gather", self.embeddings, labels)
        if self.dtype in FLOATS:
            hot = nodes.add("OneHot", labels, np.int64(self.count), np.array([0, 1], np.float32), axis=-1)
            return nodes.cast(hot, TensorProto.FLOAT, self.dtype)
        integers = nodes.cast(labels, TensorProto.INT64, self.dtype)
        return nodes.reshape(integers, self.shape) if self.shape else integers


def labels_in_turn(count: int, rows: int) -> NDArray[np.int64]:
    """0, 1, ... repeated; if there are more labels than rows, evenly spaced ones with the first and the last."""
    return np.arange(rows) % count if count <= rows else np.linspace(0, count - 1, rows).astype(np.int64)


def _one_hot(labels: NDArray[Any], count: int) -> NDArray[np.float32]:
    rows = np.zeros((len(labels), count), np.float32)
    np.put_along_axis(rows, labels[:, np.newaxis], 1, axis=1)
    return rows


def _embeddings(path: Path, shape: tuple[int, ...], dtype: int, role: str) -> NDArray[Any]:
    """The table in the file, in the element type of the input.

    Raises:
        ExportError: it cannot be read, has another shape, or holds what the input cannot take.
    """
    where = f"{role}.label_embeddings: {path}"
    try:
        with path.open("rb") as file:
            table = np.load(file, allow_pickle=False)
    except OSError as error:
        raise ExportError(f"{where}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise ExportError(f"{where}: not a NumPy file of numbers") from error
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "fiu":
        raise ExportError(f"{where}: not a NumPy file of numbers")
    if table.shape != shape:
        raise ExportError(f"{where} is {list(table.shape)}; it must be {list(shape)}")
    with np.errstate(over="ignore"):
        cast = table.astype(helper.tensor_dtype_to_np_dtype(dtype))
    if not np.isfinite(cast).all():
        raise ExportError(f"{where} holds what is not a finite {dtype_name(dtype)}")
    return np.ascontiguousarray(cast)
