"""Limits on what makes a picture file slow to decode: chunks, scans and tags."""

from __future__ import annotations

import io
import re
import struct

from latentserve.picture import FORMATS, PictureError, format_names

MAX_SCANS = 32
"""Scans of a JPEG file, for each of which a decoder goes over all of its pixels; encoders write some ten."""
MAX_COMPRESSED_CHUNKS = 32
"""Compressed texts and colour profiles of a PNG file, each of which may inflate to a mebibyte."""
MAX_EXIF_TAGS = 1024
"""Tags in the first directory of a JPEG file's EXIF block, which Pillow unpacks at once; cameras write some twenty."""

_FREE_PIECES = 1 << 10
"""Pieces that any file may be in; one with much metadata is in some hundreds."""
_BYTES_A_PIECE = 1 << 7
"""Bytes of a file for each piece beyond these: a fraction of the chunks that encoders write."""
_COMPRESSED_CHUNKS = (b"iCCP", b"zTXt", b"iTXt")
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MARKER = re.compile(rb"\xff([^\xff\x00\x01\xd0-\xd7])")
"""A marker of a JPEG file that has a length: no filling, no byte 255 of a scan, and no restart within one."""
_END, _SCAN, _EXIF = b"\xd9", b"\xda", b"\xe1"
_EXIF_NAME = b"Exif\0\0"
_BMP_CORE_HEADER = 12
_UNCOMPRESSED_BMP = (0, 3)


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


def check_outline(data: bytes) -> None:
    """Refuse a picture file that would take far longer than its pixels do, or that is of no format that is taken.

    Raises:
        PictureError: says what was found, and what is allowed.
    """
    if data.startswith(b"\x89PNG"):
        _check_png(data)
    elif data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(b"BM"):
        _check_bmp(data)
    elif data.startswith(_TIFF_MAGICS):
        raise PictureError(f"a TIFF file; {format_names(FORMATS)} is wanted")


def _pieces(size: int) -> int:
    """How many pieces a file of so many bytes may be in."""
    return _FREE_PIECES + size // _BYTES_A_PIECE


def _too_many_pieces(size: int) -> PictureError:
    return PictureError(f"more chunks than its {size} bytes account for")


def _check_png(data: bytes) -> None:
    chunks = sum(map(data.count, _COMPRESSED_CHUNKS))  # of pixels that look like a chunk's name there are hardly any
    if chunks > MAX_COMPRESSED_CHUNKS:
        raise PictureError(f"{chunks} compressed texts and profiles; {MAX_COMPRESSED_CHUNKS} are allowed")


def _check_jpeg(data: bytes) -> None:
    exif, scans, place = b"", 0, 2
    # Thumbnails in an EXIF block, and a second picture after the first, have scans, too, so more of them is no proof.
    scans_at_most = data.count(b"\xff" + _SCAN)
    for _ in range(_pieces(len(data))):
        marker = _MARKER.search(data, place)
        if marker is None or marker[1] == _END:
            return
        start = marker.end()
        place = start + int.from_bytes(data[start : start + 2])
        if marker[1] == _EXIF and data.startswith(_EXIF_NAME, start + 2):
            exif += data[start + 2 + len(_EXIF_NAME) : place]
        if marker[1] == _SCAN:
            scans += 1
            if scans == 1:
                _check_exif(exif)
            if scans > MAX_SCANS:
                raise PictureError(f"over {MAX_SCANS} scans; so many are allowed")
            if scans_at_most <= MAX_SCANS:
                return
    raise _too_many_pieces(len(data))


def _check_exif(exif: bytes) -> None:
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (place,) = struct.unpack_from(f"{order}I", exif, 4)
        (tags,) = struct.unpack_from(f"{order}H", exif, place)
    except struct.error:
        return
    if tags > MAX_EXIF_TAGS:
        raise PictureError(f"an EXIF block of {tags} tags; {MAX_EXIF_TAGS} are allowed")


def _check_bmp(data: bytes) -> None:
    header, compression = (int.from_bytes(data[place : place + 4], "little") for place in (14, 30))
    if header > _BMP_CORE_HEADER and compression not in _UNCOMPRESSED_BMP:  # Pillow unpacks runs of pixels in Python
        raise PictureError("a compressed BMP file; an uncompressed one is wanted")
