"""A lake of images: picture files below a folder or URL, or Parquet files with a column of images; listed and read."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from latentserve_bulk.errors import BulkError
from latentserve_bulk.job import RowRange

Kind = Literal["pictures", "parquet"]

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
_PARQUET = ".parquet"
_HIDDEN = (".", "_")
_READERS = 8
"""Pictures that are fetched at a time."""

Image: TypeAlias = bytes | NDArray[Any] | None
"""A picture file or a tensor; None where there is neither."""

PIECES: pa.Schema = pa.schema([("path", pa.string()), ("first", pa.int64()), ("rows", pa.int64())])
"""Rows of a range: a picture each, or rows of a Parquet file from `first` on."""


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a lake, not decoded."""

    source: str
    """The file below the lake, and of Parquet the row in it."""
    data: Image
    problem: str = ""
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a lake, in alphabetical order."""

    kind: Kind
    paths: Sequence[str]
    """Below the lake."""
    rows: Sequence[int]
    """Of each file."""
    digest: str
    """SHA-256 of names and sizes, in hexadecimal."""

    def pieces(self, parts: Sequence[RowRange]) -> Iterator[pa.Table]:
        """`PIECES` of every range, which follow one another from row 0 on."""
        number, used = 0, 0
        for part in parts:
            pieces, wanted = list[dict[str, Any]](), len(part)
            while wanted:
                taken = min(wanted, self.rows[number] - used)
                if taken:
                    pieces.append({"path": self.paths[number], "first": used, "rows": taken})
                wanted, used = wanted - taken, used + taken
                if used == self.rows[number]:
                    number, used = number + 1, 0
            yield pa.Table.from_pylist(pieces, PIECES)


class Lake:
    """The images below a path of this machine, or a URL that pyarrow or fsspec knows."""

    def __init__(self, url: str, column: str = "image") -> None:
        """`column` is that of the images, in Parquet.

        Raises:
            BulkError: the URL is none that is known.
        """
        self.url = url
        self._column = column
        try:
            self._files, self._root = _filesystem(url)
        except (ValueError, OSError, ImportError) as error:
            raise BulkError(f"{url}: {error}") from error
        self._root = self._root.rstrip("/")
        self._is_local = isinstance(self._files, fs.LocalFileSystem)

    def list(self) -> Listing:
        """What there is now. Names that begin with "." or "_" are passed over, and so are files of other kinds.

        Raises:
            BulkError: there is nothing, or pictures and Parquet. OSError: it cannot be read.
        """
        found = self._files.get_file_info(fs.FileSelector(self._root, recursive=True))
        sizes = {info.path[len(self._root) + 1 :]: info.size for info in found if info.type == fs.FileType.File}
        shown = sorted(path for path in sizes if not any(part.startswith(_HIDDEN) for part in path.split("/")))
        pictures = [path for path in shown if path.lower().endswith(_PICTURES)]
        tables = [path for path in shown if path.lower().endswith(_PARQUET)]
        if bool(pictures) == bool(tables):
            both = "there are pictures and Parquet files; name a folder of one of them"
            raise BulkError(f"{self.url}: {both if pictures else 'there is no picture and no Parquet file'}")
        rows = [self._metadata(path) for path in tables] if tables else [1] * len(pictures)
        digest = hashlib.sha256("".join(f"{path}\t{sizes[path]}\n" for path in (tables or pictures)).encode())
        return Listing("parquet" if tables else "pictures", tables or pictures, rows, digest.hexdigest())

    def rows(self, pieces: pa.Table, kind: Kind, at_once: int) -> Iterator[Sequence[Row]]:
        """The images of pieces, at most so many at once."""
        if kind == "pictures":
            paths = pieces["path"].to_pylist()
            with ThreadPoolExecutor(_READERS, "pictures") as readers:
                for start in range(0, len(paths), at_once):
                    yield list(readers.map(self._picture, paths[start : start + at_once]))
            return
        for piece in pieces.to_pylist():
            yield from self._table_rows(piece["path"], piece["first"], piece["rows"], at_once)

    def _metadata(self, path: str) -> int:
        """The rows of a Parquet file, which must have the column."""
        with self._files.open_input_file(f"{self._root}/{path}") as file:
            try:
                found = pq.ParquetFile(file)
            except pa.ArrowInvalid as error:
                raise BulkError(f"{self.url}: {path}: not a Parquet file: {error}") from error
            if self._column not in found.schema_arrow.names:
                names = ", ".join(found.schema_arrow.names)
                raise BulkError(f"--column {self._column}: {path} has no such column; it has {names}")
            return int(found.metadata.num_rows)

    def _picture(self, path: str) -> Row:
        try:
            with self._files.open_input_stream(f"{self._root}/{path}") as stream:
                return Row(path, bytes(stream.read()))
        except (FileNotFoundError, PermissionError) as error:  # others may pass, and end the job for now
            return Row(path, None, f"cannot be read: {error.strerror or error}")

    def _table_rows(self, path: str, first: int, count: int, at_once: int) -> Iterator[Sequence[Row]]:
        with self._files.open_input_file(f"{self._root}/{path}") as opened:
            file, start = pq.ParquetFile(opened), 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                low, high = max(first - start, 0), min(first + count - start, rows)
                if low < high:
                    images = self._group(file, group, low, high)
                    for begin in range(low, high, at_once):
                        taken = itertools.islice(images, min(at_once, high - begin))
                        numbered = enumerate(taken, start + begin)
                        yield [Row(f"{path}#{number}", image, problem) for number, (image, problem) in numbered]
                start += rows

    def _group(self, file: pq.ParquetFile, group: int, low: int, high: int) -> Iterator[tuple[Image, str]]:
        """Images of a row group, each with what is wrong with it."""
        try:
            column = file.read_row_group(group, [self._column])[self._column].combine_chunks()
        except (OSError, pa.ArrowInvalid) as error:
            if isinstance(error, OSError) and (error.errno or not self._is_local):  # which may pass
                raise
            yield from itertools.repeat((None, f"its row group is damaged: {error}"), high - low)
            return
        for image in _images(column.slice(low, high - low)):
            yield image, ""


def _images(column: pa.Array) -> Iterator[Image]:
    """Every image of a column: bytes, structs of them as "bytes", tensors, or lists of values."""
    if isinstance(column, pa.FixedShapeTensorArray) and not column.null_count:
        yield from column.to_numpy_ndarray()
        return
    for value in column:
        kind = value.type.storage_type if isinstance(value.type, pa.BaseExtensionType) else value.type
        if not value.is_valid:
            yield None
        elif isinstance(value.type, pa.FixedShapeTensorType):
            yield value.to_numpy()
        elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
            yield np.asarray((value.value if isinstance(value, pa.ExtensionScalar) else value).values)
        else:
            found = value.as_py()
            found = found.get("bytes") if isinstance(found, dict) else found
            yield found if isinstance(found, bytes) else None


def _filesystem(url: str) -> tuple[Any, str]:
    if "://" not in url:
        return fs.LocalFileSystem(), str(Path(url).absolute())
    try:
        files, root = fs.FileSystem.from_uri(url)
    except (ValueError, pa.ArrowInvalid):
        other, root = fsspec.core.url_to_fs(url)
        files = fs.PyFileSystem(fs.FSSpecHandler(other))
    return files, root
