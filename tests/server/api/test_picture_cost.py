"""Picture files that would take far longer than their pixels do are refused before they are decoded."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from picture_files import png, saved
from PIL import Image

from latentserve.v1 import bundle_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.api.image_files import MAX_FILE_SIDE
from latentserve_server.api.images import read_images
from latentserve_server.api.picture_cost import MAX_COMPRESSED_CHUNKS, MAX_EXIF_TAGS, MAX_SCANS
from latentserve_server.errors import InvalidArgument
from latentserve_server.workers import Workers

SPEC = bundle_pb2.ImageSpec(channels=1, height=4, width=5, max_value=1)
PICTURE = np.arange(0, 200, 10, np.uint8).reshape(4, 5)
TEXT = b"comment\0\0" + zlib.compress(b"nothing to see")


def rows(picture: np.ndarray) -> bytes:
    """The rows of a PNG file, each with the filter that does nothing."""
    return np.pad(picture, ((0, 0), (1, 0))).tobytes()


def png_of(part: int = 0, *more: tuple[bytes, bytes]) -> bytes:
    """The picture with its pixels in chunks of so many bytes, and more chunks."""
    return png(4, 5, 8, 0, rows(PICTURE), *more, part=part)


def jpeg_of(*segments: bytes, scans: int = 0, after: bytes = b"") -> bytes:
    """The picture as a progressive JPEG file with more segments, so many scans in all, and bytes after its end."""
    data = saved(PICTURE, "JPEG", progressive=True, quality=100)
    last = data[data.rindex(b"\xff\xda") : -2]
    more = max(0, scans - data.count(b"\xff\xda"))
    return data[:2] + b"".join(segments) + data[2:-2] + more * last + data[-2:] + after


def segment(kind: int, data: bytes) -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", len(data) + 2) + data


def exif_of(tags: int) -> bytes:
    """An EXIF block of so many small numbers."""
    entries = b"".join(struct.pack("<HHII", 0x8000 + number, 3, 1, 7) for number in range(tags))
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, tags) + entries + bytes(4)


def bmp_of_runs() -> bytes:
    """A BMP file of run-length encoded rows, 4 of 5 pixels each of value 9."""
    palette, runs = b"".join(bytes((level, level, level, 0)) for level in range(256)), b"\5\x09\0\0" * 4 + b"\0\1"
    offset = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, 5, 4, 1, 8, 1, len(runs), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(runs), 0, 0, offset) + header + palette + runs


@pytest.fixture(params=[False, True], ids=["as it is", "to be resized"])
def resize(request: pytest.FixtureRequest) -> bool:
    value: bool = request.param
    return value


async def read(workers: Workers, data: bytes, *, resize: bool = False) -> np.ndarray:
    """The picture in a file, as levels [height, width]."""
    images = pb.Images(encoded=pb.EncodedImages(files=[data], resize=resize))
    (image,) = await read_images("images", images, SPEC, workers)
    return np.rint(255 * image[0])


REFUSED = {
    "empty PNG chunks": (png_of(0, *[(b"ruPT", b"")] * 20_000), r"more chunks than its 240\d\d\d bytes account for"),
    "empty JPEG comments": (jpeg_of(segment(0xFE, b"") * 20_000), r"more chunks than its 80\d\d\d bytes account for"),
    "scans": (jpeg_of(scans=MAX_SCANS + 1), "over 32 scans; so many are allowed"),
    "texts": (png_of(0, *[(b"zTXt", TEXT)] * (MAX_COMPRESSED_CHUNKS + 1)), "33 compressed texts and profiles; 32 are"),
    "profiles": (png_of(0, *[(b"iCCP", TEXT)] * (MAX_COMPRESSED_CHUNKS + 1)), "33 compressed texts and profiles; 32 a"),
    "EXIF tags": (jpeg_of(segment(0xE1, exif_of(MAX_EXIF_TAGS + 1))), "an EXIF block of 1025 tags; 1024 are allowed"),
    "EXIF tags in two segments": (
        jpeg_of(segment(0xE1, exif_of(MAX_EXIF_TAGS + 1)[:10]), segment(0xE1, b"Exif\0\0" + exif_of(1025)[10:])),
        "an EXIF block of 1025 tags; 1024 are allowed",
    ),
    "runs": (bmp_of_runs(), "a compressed BMP file; an uncompressed one is wanted"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_takes_long_is_refused(workers: Workers, data: bytes, message: str, resize: bool) -> None:
    with pytest.raises(InvalidArgument, match=rf"^images.encoded.files\[0\]: {message}"):
        await read(workers, data, resize=resize)


@pytest.mark.parametrize("data", [data for data, _ in REFUSED.values()], ids=REFUSED.keys())
def test_what_is_refused_would_have_decoded_at_once(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as picture:
        assert np.asarray(picture).shape == (4, 5)


ALLOWED = {
    "pixels in pieces": png_of(1),
    "PNG chunks": png_of(0, *[(b"ruPT", b"")] * 200),
    "JPEG comments": jpeg_of(segment(0xFE, b"") * 200),
    "scans": jpeg_of(scans=MAX_SCANS),
    "scans of a thumbnail": jpeg_of(segment(0xE1, b"thumbnail" + b"\xff\xda" * 40), scans=MAX_SCANS),
    "scans of a second picture": jpeg_of(after=jpeg_of(scans=MAX_SCANS)),
    "texts": png_of(0, *[(b"zTXt", TEXT)] * MAX_COMPRESSED_CHUNKS),
    "EXIF tags": jpeg_of(segment(0xE1, exif_of(MAX_EXIF_TAGS))),
    "EXIF without a directory": jpeg_of(segment(0xE1, b"Exif\0\0II*\0")),
}


@pytest.mark.parametrize("data", ALLOWED.values(), ids=ALLOWED.keys())
async def test_what_is_within_bounds_is_read(workers: Workers, data: bytes, resize: bool) -> None:
    np.testing.assert_allclose(await read(workers, data, resize=resize), PICTURE, rtol=0, atol=2)


@pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
async def test_frames_beyond_the_first_cost_nothing(
    workers: Workers, form: str, options: dict[str, bool], resize: bool
) -> None:
    frames = [Image.fromarray(np.roll(PICTURE, turn)) for turn in range(1, 12)]
    data = saved(Image.fromarray(PICTURE), form, save_all=True, append_images=frames * 20, duration=50, **options)
    assert len(data) > 10_000
    np.testing.assert_array_equal(await read(workers, data, resize=resize), PICTURE)


async def test_a_side_may_be_as_long_as_jpeg_allows(workers: Workers) -> None:
    longest, longer = (saved(np.full((1, side), 9, np.uint8), "PNG") for side in (MAX_FILE_SIDE, MAX_FILE_SIDE + 1))
    assert (await read(workers, longest, resize=True) == 9).all()
    with pytest.raises(InvalidArgument, match="65536x1 pixels; 65535 a side are allowed"):
        await read(workers, longer, resize=True)
