"""A local cache of fetched bundles, by the digest of their manifest.

An entry appears by a rename once it is complete, and is verified whenever it is asked for; so neither a download that
broke off nor a file that was changed is ever served. The least recently used entries make room for new ones.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.bundle.bundle import open_file
from latentserve_server.bundle.manifest import MANIFEST
from latentserve_server.errors import BundleError, ConfigError, is_passing

_ENTRY = re.compile(r"[0-9a-f]{64}")
_STAGING = ".staging-"

Parts = Callable[[pb.File], Iterator[bytes]]
"""The bytes of a bundle's file, part by part, at most one more than the file is to have."""


class BundleCache:
    """A bounded directory of bundles that one server has for itself."""

    def __init__(self, directory: Path | None, max_bytes: int) -> None:
        """Nothing is made yet. Without a directory there will be one that goes with the process."""
        self._configured = directory
        self._max_bytes = max_bytes
        self._directory = Path()
        self._lock: IO[bytes] | None = None

    def open(self) -> None:
        """Make the directory, take it for this process, and drop what an earlier one left half done.

        Raises:
            ConfigError: it cannot be written, or another server has it.
        """
        try:
            self._directory = self._configured or Path(tempfile.mkdtemp(prefix="latentserve-"))
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock = (self._directory / ".lock").open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"--cache-dir {self._configured}: another server uses it") from error
        except OSError as error:
            raise ConfigError(f"--cache-dir {self._configured or ''}: {error.strerror}") from error
        for left in self._directory.glob(f"{_STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)

    def close(self) -> None:
        """Let another process have the directory; remove it where it was made for this one alone."""
        if self._lock is None:
            return
        self._lock.close()
        self._lock = None
        if self._configured is None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def get(self, digest: str, files: Callable[[bytes], Iterable[pb.File]]) -> Path | None:
        """The entry of a manifest's digest; None where there is none, or none that is whole any more.

        `files` says which files a manifest lists.

        Raises:
            OSError: it cannot be read now.
        """
        entry = self._directory / digest
        if not _ENTRY.fullmatch(digest) or not entry.is_dir():
            return None
        try:
            with open_file(entry / MANIFEST) as file:
                manifest = file.read()
            is_whole = hashlib.sha256(manifest).hexdigest() == digest and all(
                _sha256(entry / file.path) == file.sha256 for file in files(manifest)
            )
        except (OSError, BundleError) as error:
            if isinstance(error, OSError) and is_passing(error):
                raise  # it may be whole
            is_whole = False
        if not is_whole:
            shutil.rmtree(entry, ignore_errors=True)
            return None
        os.utime(entry)
        return entry

    def put(self, manifest: bytes, files: Iterable[pb.File], parts: Parts) -> Path:
        """Make the entry of a manifest from the parts of its files.

        Raises:
            BundleError: a file is not what the manifest says, or the bundle is larger than the cache.
            OSError: the parts do not come, or the directory is full.
        """
        files = list(files)
        self._make_room(len(manifest) + sum(file.size_bytes for file in files))
        staging = Path(tempfile.mkdtemp(dir=self._directory, prefix=_STAGING))
        try:
            for file in files:
                _write_verified(staging / file.path, file, parts(file))
            (staging / MANIFEST).write_bytes(manifest)
            entry = self._directory / hashlib.sha256(manifest).hexdigest()
            shutil.rmtree(entry, ignore_errors=True)
            return staging.rename(entry)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise

    def _make_room(self, size: int) -> None:
        if size > self._max_bytes:
            raise BundleError(f"the bundle has {size} bytes where --cache-bytes is {self._max_bytes}")
        entries = sorted(
            (path for path in self._directory.iterdir() if _ENTRY.fullmatch(path.name)),
            key=lambda path: path.stat().st_mtime_ns,
        )
        sizes = [sum(file.stat().st_size for file in entry.iterdir()) for entry in entries]
        taken = sum(sizes)
        for entry, entry_size in zip(entries, sizes, strict=True):
            if taken + size <= self._max_bytes:
                return
            shutil.rmtree(entry)
            taken -= entry_size


def _sha256(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_verified(path: Path, file: pb.File, parts: Iterator[bytes]) -> None:
    """Write a file's parts; an error leaves a file that is not to be used.

    Raises:
        BundleError: the parts are not what the manifest says. OSError: they do not come, or cannot be written.
    """
    written, digest = 0, hashlib.sha256()
    with path.open("xb") as out:
        for part in parts:
            written += len(part)
            if written > file.size_bytes:
                raise BundleError(f"{file.path}: longer than {file.size_bytes} bytes")
            digest.update(part)
            out.write(part)
    if written != file.size_bytes:
        raise BundleError(f"{file.path}: {written} bytes where the manifest says {file.size_bytes}")
    if digest.hexdigest() != file.sha256:
        raise BundleError(f"{file.path}: the SHA-256 is not the manifest's; the file was changed or damaged")
