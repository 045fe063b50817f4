"""MNIST's four files, in small: found, downloaded from a real HTTP server, refused where they are wrong."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from training.idx_files import to_idx

from latentserve_training.data.mnist import MNIST, Publication, read_mnist
from latentserve_training.errors import DataError

CLOSED_PORT = "http://127.0.0.1:9/"
RNG = np.random.default_rng(0)
ARRAYS = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8),
    "train-labels-idx1-ubyte": RNG.integers(0, 10, 6, dtype=np.uint8),
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (4, 28, 28), dtype=np.uint8),
    "t10k-labels-idx1-ubyte": RNG.integers(0, 10, 4, dtype=np.uint8),
}
DIGESTS = {name: hashlib.sha256(to_idx(array)).hexdigest() for name, array in ARRAYS.items()}
OFFLINE = Publication(CLOSED_PORT, DIGESTS)


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        pass


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The folder that the mirror serves."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, array in ARRAYS.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(to_idx(array)))
    return folder


@pytest.fixture
def mirror(shelf: Path) -> Iterator[Publication]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(shelf))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Publication(f"http://127.0.0.1:{server.server_port}/", DIGESTS)
        server.shutdown()
        thread.join()


def test_reads_plain_and_packed_files_from_one_folder(tmp_path: Path) -> None:
    for number, (name, array) in enumerate(ARRAYS.items()):
        packed = number % 2 == 0
        (tmp_path / (f"{name}.gz" if packed else name)).write_bytes(
            gzip.compress(to_idx(array)) if packed else to_idx(array)
        )
    train, test = read_mnist(tmp_path, OFFLINE)
    np.testing.assert_array_equal(train.images[:, 0], ARRAYS["train-images-idx3-ubyte"])
    assert test.images.shape == (4, 1, 28, 28)
    assert train.labels is not None
    np.testing.assert_array_equal(train.labels, ARRAYS["train-labels-idx1-ubyte"])
    assert train.labels.dtype == np.int64


def test_downloads_what_is_missing_once(tmp_path: Path, mirror: Publication) -> None:
    root = tmp_path / "new" / "folder"
    downloaded, _ = read_mnist(root, mirror)
    assert {path.name for path in root.iterdir()} == {f"{name}.gz" for name in ARRAYS}
    read, _ = read_mnist(root, OFFLINE)
    np.testing.assert_array_equal(read.images, downloaded.images)


def test_who_may_read_what_a_user_writes_may_read_what_was_downloaded(tmp_path: Path, mirror: Publication) -> None:
    root, other = tmp_path / "data", tmp_path / "other"
    other.touch()
    read_mnist(root, mirror)
    assert {file.stat().st_mode for file in root.rglob("*.gz")} == {other.stat().st_mode}


def test_keeps_nothing_that_was_downloaded_wrong(tmp_path: Path, shelf: Path, mirror: Publication) -> None:
    (shelf / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(to_idx(np.zeros(4, np.uint8))))
    root = tmp_path / "root"
    with pytest.raises(DataError, match=r"^http://.*/t10k-labels-idx1-ubyte\.gz: "):
        read_mnist(root, mirror)
    assert not [path for path in root.iterdir() if "t10k-labels" in path.name]


def test_names_folder_and_files_where_neither_disk_nor_network_has_them(tmp_path: Path) -> None:
    with pytest.raises(DataError) as failure:
        read_mnist(tmp_path, Publication(CLOSED_PORT, MNIST.digests))
    first = "train-images-idx3-ubyte"
    assert str(failure.value) == (
        f"data.root {tmp_path} lacks {first} (plain or .gz; needed are {', '.join(MNIST.digests)}), and downloading "
        f"{CLOSED_PORT}{first}.gz failed: <urlopen error [Errno 111] Connection refused>"
    )


def test_a_file_of_other_data_is_refused_by_digest(tmp_path: Path) -> None:
    for name, array in ARRAYS.items():
        (tmp_path / name).write_bytes(to_idx(array))
    changed = ARRAYS["train-images-idx3-ubyte"].copy()
    changed[0, 0, 0] ^= 1
    name = "train-images-idx3-ubyte"
    (tmp_path / name).write_bytes(to_idx(changed))
    with pytest.raises(DataError) as failure:
        read_mnist(tmp_path, OFFLINE)
    found = hashlib.sha256(to_idx(changed)).hexdigest()
    assert str(failure.value) == (
        f"{tmp_path / name}: the SHA-256 of the unpacked file is {found}, but the published one is {DIGESTS[name]}"
    )
