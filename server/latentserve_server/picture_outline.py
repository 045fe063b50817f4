"""The outline of a picture file: what is counted before Pillow goes over it. Decodes nothing."""

from __future__ import annotations

import io

from latentserve.picture import PictureError

_FREE_PIECES = 1 << 10
"""Pieces that any file may be in; one with much metadata is in some hundreds."""
_BYTES_A_PIECE = 1 << 7
"""Bytes of a file for each piece beyond these: a fraction of the chunks that encoders write."""


class PatientFile(io.BytesIO):
    """The bytes of a file, for as many reads as its length accounts for.

    Pillow goes over chunks and markers in Python, with one read or more for each. A file of empty ones would take it
    seconds a megabyte.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._size = len(data)
        self._reads = _pieces(self._size)

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO's, while there is patience.

        Raises:
            PictureError: there is none left.
        """
        if not self._reads:
            raise _too_many_pieces(self._size)
        self._reads -= 1
        return super().read(size)


def _pieces(size: int) -> int:
    """How many pieces a file of so many bytes may be in."""
    return _FREE_PIECES + size // _BYTES_A_PIECE


def _too_many_pieces(size: int) -> PictureError:
    return PictureError(f"more chunks than its {size} bytes account for")
