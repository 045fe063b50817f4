"""A folder of files at a path or a URL, in which a file is there as a whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pyarrow import fs

from latentserve_bulk.errors import BulkError

_UNFINISHED = ".unfinished-"


class Sink(io.RawIOBase):
    """A file that is being written, with what it will be known by.

    Rows go to it as they are made: to gather a file of 100 MB in new memory may take longer than to compute it.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        """Bytes so far."""

    @property
    def sha256(self) -> str:
        """Of the bytes so far, in hexadecimal."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """As `size_bytes`."""
        return self.size_bytes

    def write(self, data: Any) -> int:
        """Add bytes; returns how many."""
        self._digest.update(data)
        self._file.write(data)
        self.size_bytes += (size := memoryview(data).nbytes)
        return size


class Folder:
    """The folder at a path of this machine, or at a URL that pyarrow knows."""

    def __init__(self, url: str) -> None:
        """Look at nothing yet.

        Raises:
            BulkError: the URL is none that is known.
        """
        self.url = url if "://" in url else str(Path(url).absolute())
        """The absolute path, or the URL."""
        try:
            self._files, self._root = fs.FileSystem.from_uri(self.url)
        except (ValueError, OSError) as error:
            raise BulkError(f"{url}: {error}") from error
        self._is_local = isinstance(self._files, fs.LocalFileSystem)

    def write(self, name: str, data: Any) -> None:
        """Put a file of these bytes in its place; as `writing`."""
        with self.writing(name) as file:
            file.write(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[Sink]:
        """A file that is put in its place, in which there may be another one, as the block ends, or not at all.

        Raises:
            OSError: it cannot be written.
        """
        path = f"{self._root}/{name}"
        folder = path.rpartition("/")[0]
        self._files.create_dir(folder, recursive=True)
        if not self._is_local:  # an object is there once its stream is closed, also by an error
            buffer = io.BytesIO()
            yield Sink(buffer)
            with self._files.open_output_stream(path) as stream:
                stream.write(buffer.getbuffer())
            return
        unfinished = Path(folder, f"{_UNFINISHED}{uuid.uuid4().hex}")
        try:
            with unfinished.open("wb") as file:
                yield Sink(file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None where there is none.

        Raises:
            OSError: it cannot be read.
        """
        try:
            with self._files.open_input_stream(f"{self._root}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def sizes(self, folder: str = "") -> dict[str, int]:
        """The files that lie in a folder below, or in this one: bytes by name. Those that are unfinished are not there.

        Raises:
            OSError: it cannot be read.
        """
        below = fs.FileSelector(f"{self._root}/{folder}" if folder else self._root, allow_not_found=True)
        files = [info for info in self._files.get_file_info(below) if info.type == fs.FileType.File]
        return {info.base_name: info.size for info in files if not info.base_name.startswith(_UNFINISHED)}

    def remove_unfinished(self, folder: str = "") -> None:
        """Remove what writers left behind that were killed. No writer may be at work."""
        if self._is_local:
            for path in Path(self._root, folder).glob(f"{_UNFINISHED}*"):
                path.unlink(missing_ok=True)
