"""A .npy file that grows: valid after every append, whatever happens next."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_client.files import FileError


class GrowingArray:
    """Rows [n, *shape] of one dtype that are written as they come, to a hidden file beside `path` until publish().

    Only the rows of one append are in memory. numpy leaves room in the header for the first axis to grow, so the header
    is written anew in its place after each append.

    Raises:
        FileError: from any method, where the file cannot be written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self._path = path
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        self.rows = 0
        """Rows written."""
        with self._reporting():
            self._file = self._temporary.open("xb")
            self._write_header(0)

    def append(self, rows: NDArray[Any]) -> None:
        """Write `rows`, [k, *shape], below the others."""
        assert rows.shape[1:] == self._shape
        with self._reporting():
            self._file.write(np.ascontiguousarray(rows, self._dtype).data)
            self._file.flush()
            self._write_header(self.rows + len(rows))
            self.rows += len(rows)

    def publish(self, path: Path) -> None:
        """End the file and give it its name, in place of a file that has it."""
        with self._reporting():
            self._file.close()
            self._temporary.replace(path)

    def discard(self) -> None:
        """Delete the file, unless it has been published."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _write_header(self, rows: int) -> None:
        self._file.seek(0)
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (rows, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._file.flush()
        self._file.seek(0, 2)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileError(f"{self._path}: cannot be written: {error.strerror or error}") from error
