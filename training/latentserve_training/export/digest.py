"""The SHA-256 digest of files, computed beside other work."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Thread


class Digest:
    """The digest of the bytes of some files, one after another, from a thread that begins at once."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._hash = hashlib.sha256()
        self._error: OSError | None = None
        self._thread = Thread(target=self._read, daemon=True)  # so that nobody who gives up waits for it
        self._thread.start()

    def hexadecimal(self) -> str:
        """The digest, once it is known.

        Raises:
            OSError: a file could not be read.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._hash.hexdigest()

    def _read(self) -> None:
        try:
            for path in self._paths:
                with path.open("rb") as file:
                    hashlib.file_digest(file, lambda: self._hash)
        except OSError as error:
            self._error = error
