"""MNIST from its four IDX files: found in any folder, or downloaded into it; always checked by digest."""

from __future__ import annotations

import hashlib
import tempfile
import urllib.request
from pathlib import Path

import numpy as np

from latentserve_training.data.dataset import Split
from latentserve_training.data.idx import parse_idx, read_bytes
from latentserve_training.errors import DataError

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_TIMEOUT_SECONDS = 30.0

# SHA-256 of the unpacked files, so that it does not matter how, or whether, they are packed.
DIGESTS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def read_mnist(root: Path) -> tuple[Split, Split]:
    """The 60,000 training and 10,000 test images, uint8 [n, 1, 28, 28], with labels 0 to 9, in their published order.

    Raises:
        DataError: a file is neither in `root` nor to be had from the mirror, or its digest is not the published one.
    """
    _download_missing(root)
    return _read_split(root, "train"), _read_split(root, "t10k")


def _read_split(root: Path, part: str) -> Split:
    images = parse_idx(_read_checked(root, f"{part}-images-idx3-ubyte"), axes=3)
    labels = parse_idx(_read_checked(root, f"{part}-labels-idx1-ubyte"), axes=1)
    return Split(images[:, np.newaxis], labels.astype(np.int64))


def _read_checked(root: Path, name: str) -> bytes:
    path = _find(root, name)
    assert path is not None, "every file is in place once the missing ones are downloaded"
    content = read_bytes(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != DIGESTS[name]:
        raise DataError(f"{path}: SHA-256 of the unpacked file is {digest}, but MNIST's is {DIGESTS[name]}")
    return content


def _find(root: Path, name: str) -> Path | None:
    return next((path for path in (root / f"{name}.gz", root / name) if path.is_file()), None)


def _download_missing(root: Path) -> None:
    missing = [f"{name}.gz" for name in DIGESTS if _find(root, name) is None]
    try:
        for name in missing:
            _download(MIRROR + name, root / name)
    except OSError as error:
        raise DataError(
            f"data.root {root} lacks {', '.join(missing)} (plain or .gz), and downloading from {MIRROR} failed: {error}"
        ) from error


def _download(url: str, path: Path) -> None:
    """Fetch `url` into `path`, which appears only when it is whole."""
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as reply:  # noqa: S310  the mirror's scheme is https
        content = reply.read()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
