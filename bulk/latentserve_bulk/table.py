"""Tables of rows: their columns in Arrow, and their bytes as Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentserve_bulk.job import ImageForm
from latentserve_server.offline.pictures import png

ROW_GROUP_BYTES = 16 << 20
"""What the rows of a row group take, about, which is what must be read to have one of them."""

REJECTED: pa.Schema = pa.schema([("index", pa.int64()), ("source", pa.string()), ("reason", pa.string())])
"""Columns of rows that could not be made."""


def tensor_field(name: str, dtype: Any, shape: Sequence[int]) -> pa.Field:
    """A column of arrays of one shape, which the schema holds."""
    return pa.field(name, pa.fixed_shape_tensor(pa.from_numpy_dtype(np.dtype(dtype)), list(shape)), nullable=False)


def tensor_column(rows: NDArray[Any], shape: Sequence[int]) -> pa.Array:
    """Rows [n, ...] as such a column."""
    array = np.ascontiguousarray(rows.reshape(len(rows), *shape))
    return pa.FixedShapeTensorArray.from_numpy_ndarray(array)


def image_field(form: ImageForm, shape: Sequence[int]) -> pa.Field:
    """The column of images [channels, height, width]."""
    if form == "png":
        return pa.field("image", pa.binary(), nullable=False)
    return tensor_field("image", form, shape)


def image_column(form: ImageForm, images: NDArray[Any]) -> pa.Array:
    """Images [n, channels, height, width], uint8 for "png" and "uint8", as such a column."""
    if form == "png":
        return pa.array([png(image) for image in images], pa.binary())
    return tensor_column(images, images.shape[1:])


def rows_of_group(row_bytes: int) -> int:
    """How many rows of so many bytes a row group has."""
    return max(1, ROW_GROUP_BYTES // row_bytes)


class ParquetFile:
    """A Parquet file that is being written, a row group at a time."""

    def __init__(self, sink: Any, schema: pa.Schema, *, repeats: bool = False, group_rows: int = 1) -> None:
        """`repeats` says that values repeat, as bytes do, so that they are written as indices of a dictionary.

        Rows that are added are a row group each time, or once there are `group_rows`.
        """
        self._schema = schema
        self._group_rows = group_rows
        self._waiting = list[pa.Table]()
        self._writer = pq.ParquetWriter(
            sink,
            schema,
            compression="snappy" if repeats else {"source": "snappy"},  # floats and PNG files do not shrink
            use_dictionary=repeats,
            write_statistics=[field.name for field in schema if field.name in ("index", "source")],
        )
        self.rows = 0
        """Rows so far."""

    def add(self, columns: Mapping[str, pa.Array]) -> None:
        """Add rows."""
        table = pa.Table.from_arrays([columns[name] for name in self._schema.names], schema=self._schema)
        self._waiting.append(table)
        self.rows += table.num_rows
        if sum(part.num_rows for part in self._waiting) >= self._group_rows:
            self._write()

    def close(self) -> None:
        """Write what is left of it, and leave the sink open."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        if rows := sum(part.num_rows for part in self._waiting):
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=rows)
        self._waiting.clear()
