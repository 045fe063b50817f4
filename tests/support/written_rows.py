"""What a job wrote, read back by pyarrow alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image


def written_rows(output: Path) -> pa.Table:
    """All rows, in the order of their index."""
    tables = [pq.read_table(path, partitioning=None) for path in sorted(output.glob("*.parquet"))]
    return pa.concat_tables(tables).sort_by("index")


def rejected_rows(output: Path) -> list[dict[str, Any]]:
    """All rows that could not be made, in that order."""
    tables = [pq.read_table(path) for path in sorted((output / "_rejected").glob("*.parquet"))]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).sort_by("index").to_pylist() if tables else []
    return rows


def tensors(table: pa.Table, name: str) -> NDArray[Any]:
    """A column of tensors [n, ...]."""
    array: NDArray[Any] = table[name].combine_chunks().to_numpy_ndarray()
    return array


def pictures(table: pa.Table, name: str = "image") -> NDArray[np.uint8]:
    """A column of PNG files as uint8 [n, channels, height, width]."""
    images = [np.atleast_3d(np.asarray(Image.open(io.BytesIO(file)))) for file in table[name].to_pylist()]
    return np.moveaxis(np.stack(images), -1, 1)


def manifest(output: Path) -> dict[str, Any]:
    """The manifest."""
    return dict(json.loads((output / "_manifest.json").read_text()))


def digests(output: Path) -> dict[str, str]:
    """SHA-256 of each file of rows, as the manifest has them."""
    files = [part[kind] for part in manifest(output)["ranges"] for kind in ("file", "rejected")]
    return {file["path"]: file["sha256"] for file in files if file}
