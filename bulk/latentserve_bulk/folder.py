"""A folder of files at a path or a URL, in which a file is there as a whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from pyarrow import fs

from latentserve_bulk.errors import BulkError

_UNFINISHED = ".unfinished-"


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
        """Put a file of these bytes in its place, in which there may be another one. A reader never sees a part of it.

        Raises:
            OSError: it cannot be written.
        """
        path = f"{self._root}/{name}"
        folder = path.rpartition("/")[0]
        self._files.create_dir(folder, recursive=True)
        if not self._is_local:  # an object is there once all of it is
            with self._files.open_output_stream(path) as stream:
                stream.write(data)
            return
        unfinished = Path(folder, f"{_UNFINISHED}{uuid.uuid4().hex}")
        try:
            with unfinished.open("wb") as file:
                file.write(data)
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
