"""A bundle's folder on disk: staged beside its place, published by one rename; its manifest."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from latentserve.v1 import bundle_pb2
from latentserve_training.errors import ExportError
from latentserve_training.export.digest import Digest
from latentserve_training.interruption import signals_ignored

MANIFEST = "manifest.json"


def require_free(place: Path) -> None:
    """Raise ExportError where `place` exists."""
    if place.exists():
        raise ExportError(f"{place} exists already, and a published version never changes; choose another --version")


@contextmanager
def staging(place: Path) -> Iterator[Path]:
    """A new folder to fill; renamed to `place` when the block succeeds, and removed when it fails.

    Folders above it that did not exist are made, and removed likewise.

    Raises:
        ExportError: `place` has been taken meanwhile, or cannot be written.
    """
    made = [folder for folder in place.parents if not folder.exists()]
    # A leading dot keeps it out of a server's sight; the same folder means the same file system, as rename needs.
    folder = place.with_name(f".staging-{place.name}-{secrets.token_hex(4)}")
    try:
        _make(folder)
        yield folder
        _make_durable(folder)
        require_free(place)
        folder.chmod(0o755)
        with signals_ignored():
            folder.rename(place)
            _sync(place.parent)
    except OSError as error:
        raise ExportError(f"{place}: cannot be published: {error.strerror}") from error
    finally:
        with signals_ignored():
            shutil.rmtree(folder, ignore_errors=True)
            for empty in made:
                with suppress(OSError):  # it holds what was published, or what another process has put there
                    empty.rmdir()


def _make(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise ExportError(f"{folder.parent}: cannot be written: {error.strerror}") from error


def describe(path: Path, digest: Digest | None = None) -> bundle_pb2.File:
    """The entry of a bundle's file in its manifest; `digest` is the file's, where it has been begun."""
    sha256 = (digest or Digest([path])).hexadecimal()
    return bundle_pb2.File(path=path.name, sha256=sha256, size_bytes=path.stat().st_size)


def write_manifest(manifest: bundle_pb2.Manifest, folder: Path) -> None:
    """Write manifest.json: the last file, since it holds the digests of all others."""
    content = MessageToDict(manifest, preserving_proto_field_name=True)
    # The order of a map's entries changes from process to process, and equal bundles must be equal bytes.
    for holder, name in ((content, "metrics"), (content.get("provenance", {}), "software")):
        if name in holder:
            holder[name] = dict(sorted(holder[name].items()))
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _make_durable(folder: Path) -> None:
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
