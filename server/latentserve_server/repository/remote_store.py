"""A store at a URL: listed there, fetched through the cache.

An object store has no renames, so the manifest is what publishes a version: it is uploaded last, and a folder without
one is no version yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, listed_files
from latentserve_server.errors import BundleError, ConfigError, StoreFailure
from latentserve_server.repository.remote_cache import BundleCache
from latentserve_server.repository.remote_files import RemoteFiles
from latentserve_server.repository.store import (
    ALIASES,
    MAX_ALIASES_BYTES,
    AliasFile,
    Catalog,
    ModelDirectory,
    alias_bytes,
    is_model_name,
    is_version,
    is_visible,
    no_version,
    parse_aliases,
    shown,
)


class RemoteStore:
    """The models below a URL, as a `ModelStore`."""

    def __init__(self, url: str, cache: BundleCache) -> None:
        self._url = url
        self._files = RemoteFiles(url)
        self._cache = cache

    @property
    def place(self) -> str:
        """The URL."""
        return self._url

    def open(self) -> None:
        """Open the cache."""
        self._cache.open()

    def close(self) -> None:
        """End what is being fetched, and close the cache."""
        self._files.close()
        self._cache.close()

    def catalog(self) -> Catalog:
        """What there is now; reads the manifests and alias files alone.

        Raises:
            ConfigError: the store is not there, or cannot be read.
        """
        catalog = Catalog()
        try:
            names = _visible(self._files.names()[0])
            catalog.is_empty = not names
            for name in names:
                if not is_model_name(name, catalog.problems):
                    continue
                try:
                    model = self._read_model(name, catalog.problems)
                except FileNotFoundError:  # it went while we looked
                    continue
                except PermissionError as error:
                    catalog.unreadable.add(name)
                    catalog.problems.append(f"{shown(name)}: cannot be read: {error}")
                    continue
                if model.digests:
                    catalog.models[name] = model
        except FileNotFoundError as error:
            raise ConfigError(f"{self._url}: cannot be read: nothing is there ({error})") from error
        except OSError as error:
            raise ConfigError(f"{self._url}: cannot be read: {error}") from error
        return catalog

    def fetch(self, name: str, version: int, digest: str) -> Path:
        """The bundle in the cache, after it was brought there where it is not yet."""
        folder = f"{name}/{version}"
        try:
            if entry := self._cache.get(digest, listed_files):
                return entry
            manifest = self._files.read(f"{folder}/{MANIFEST}", MAX_MANIFEST_BYTES)
            if len(manifest) > MAX_MANIFEST_BYTES:
                raise BundleError(f"{MANIFEST}: longer than {MAX_MANIFEST_BYTES} bytes")

            def parts(file: pb.File) -> Iterator[bytes]:
                try:
                    yield from self._files.parts(f"{folder}/{file.path}", file.size_bytes)
                except FileNotFoundError as error:  # the upload may not be over
                    raise OSError(f"{file.path} is not there") from error
                except OSError as error:
                    raise OSError(f"{file.path}: {error}") from error

            return self._cache.put(manifest, listed_files(manifest), parts)
        except OSError as error:
            raise StoreFailure(f"it cannot be fetched from {self._url}: {error}") from error

    def read_aliases(self, name: str) -> AliasFile:
        """The alias file of a model; an empty one where there is no file."""
        try:
            return parse_aliases(self._files.read(f"{name}/{ALIASES}", MAX_ALIASES_BYTES))
        except FileNotFoundError:
            return AliasFile()

    def write_aliases(self, name: str, versions: Mapping[str, int]) -> AliasFile:
        """Replace the alias file of a model."""
        data = alias_bytes(versions)
        self._files.replace(f"{name}/{ALIASES}", data)
        return parse_aliases(data)

    def _read_model(self, name: str, problems: list[str]) -> ModelDirectory:
        model, said = ModelDirectory(), len(problems)
        folders, files = self._files.names(name)
        for file in files:
            is_version(name, file, problems, is_folder=False)
        if not folders and len(problems) == said:
            problems.append(no_version(name))
        for version in _visible(folders):
            if not is_version(name, version, problems):
                continue
            try:
                manifest = self._files.read(f"{name}/{version}/{MANIFEST}", MAX_MANIFEST_BYTES)
            except FileNotFoundError:
                continue
            model.digests[int(version)] = hashlib.sha256(manifest).hexdigest()
        if model.digests:
            try:
                model.aliases = self.read_aliases(name)
            except ValueError as error:
                problems.append(f"{name}: {error}")
        return model


def _visible(names: list[str]) -> list[str]:
    return [name for name in names if is_visible(name)]
