"""MNIST from its four IDX files, local or downloaded, always checked by digest."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import math
import urllib.request
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentserve_training.data.dataset import Split
from latentserve_training.errors import DataError

_TIMEOUT_SECONDS = 30.0
_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08
_NAMES = tuple("0123456789")


@dataclass(frozen=True)
class Publication:
    """Where four IDX files are published, and what must be in them."""

    mirror: str
    """URL that the name of a file, with .gz, is appended to."""

    digests: Mapping[str, str]
    """SHA-256, in hexadecimal, of every file unpacked: how, or whether, a file is packed does not matter."""


MNIST = Publication(
    mirror="https://ossci-datasets.s3.amazonaws.com/mnist/",
    digests={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)


def read_mnist(root: Path, publication: Publication = MNIST) -> tuple[Split, Split]:
    """The training and the test images, uint8 [n, 1, height, width], with their labels, in their published order.

    MNIST has 60,000 and 10,000 images of 28x28 and labels 0 to 9. Files may be plain or .gz.

    Raises:
        DataError: a file is neither in `root` nor to be had from the mirror, or its digest is not the published one.
    """
    contents = {name: _read(root, name, publication) for name in publication.digests}
    train, test = (
        Split(
            parse_idx(contents[f"{part}-images-idx3-ubyte"], axes=3)[:, np.newaxis],
            parse_idx(contents[f"{part}-labels-idx1-ubyte"], axes=1).astype(np.int64),
            _NAMES,
        )
        for part in ("train", "t10k")
    )
    return train, test


def _read(root: Path, name: str, publication: Publication) -> bytes:
    """The unpacked file from `root`, into which it is downloaded if need be."""
    for path in (root / f"{name}.gz", root / name):
        try:
            return _checked(path.read_bytes(), str(path), publication.digests[name])
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return _download(root / f"{name}.gz", publication)


def _checked(packed: bytes, origin: str, digest: str) -> bytes:
    content = unpack(packed, origin)
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise DataError(f"{origin}: the SHA-256 of the unpacked file is {found}, but the published one is {digest}")
    return content


def _download(path: Path, publication: Publication) -> bytes:
    """Download the file from the mirror to `path`, which appears only once it is complete and verified."""
    url = publication.mirror + path.name
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as reply:  # noqa: S310  the mirror is not user input
            packed = reply.read()
        content = _checked(packed, url, publication.digests[path.stem])
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            unfinished.write_bytes(packed)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"data.root {path.parent} lacks {path.stem} (plain or .gz; needed are {', '.join(publication.digests)}), "
            f"and downloading {url} failed: {error}"
        ) from error
    return content


def unpack(packed: bytes, origin: str) -> bytes:
    """The bytes of a file, decompressed if they are gzip; `origin` names the file in messages.

    Raises:
        DataError: the gzip stream is damaged.
    """
    try:
        return gzip.decompress(packed) if packed.startswith(_GZIP_MAGIC) else packed
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{origin}: damaged gzip: {error}") from error


def parse_idx(content: bytes, axes: int) -> NDArray[np.uint8]:
    """The uint8 array, of `axes` axes, that the bytes of an IDX file hold.

    Raises:
        DataError: the magic number is not that of uint8 data with `axes` axes, or the length is not the header's.
    """
    magic = bytes((0, 0, _UNSIGNED_BYTE, axes))
    header = 4 + 4 * axes
    if content[:4] != magic or len(content) < header:
        raise DataError(
            f"not an IDX file of uint8 with {axes} axes: it starts with 0x{content[:4].hex() or '(nothing)'}"
        )
    shape = tuple(int(extent) for extent in np.frombuffer(content, ">u4", count=axes, offset=4))
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataError(f"IDX data of shape {list(shape)} takes {expected} bytes, but there are {len(content)}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
