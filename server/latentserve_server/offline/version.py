"""A version in a repository, found by its name, its number or an alias."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.bundle.bundle import read_manifest
from latentserve_server.errors import BundleError, ModelNotFound
from latentserve_server.model.abilities import Abilities
from latentserve_server.repository.remote_cache import BundleCache
from latentserve_server.repository.remote_files import scheme_of
from latentserve_server.repository.remote_store import RemoteStore
from latentserve_server.repository.store import LocalStore, ModelDirectory, ModelStore

_CACHE_BYTES = 10 << 30


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """A version whose bundle lies on this machine. Of the bundle, the manifest alone is read."""

    name: str
    version: int
    digest: str
    """SHA-256 of manifest.json, in hexadecimal."""
    directory: Path
    manifest: pb.Manifest

    @property
    def abilities(self) -> Abilities:
        """What it answers."""
        return Abilities.of(self.name, self.manifest)


@contextmanager
def found_version(
    repository: str, name: str, version: int | None = None, alias: str | None = None, cache: Path | None = None
) -> Iterator[FoundVersion]:
    """The version of a model in a repository, for the block: of the number, of the alias, or the highest.

    `repository` is a directory or a URL, s3://, gs:// or file://. The bundles of a URL are kept in `cache`, or for the
    block alone.

    Raises:
        ModelNotFound: there is none. ConfigError: the repository cannot be read. BundleError: the manifest is none.
        StoreFailure: it cannot be had now.
    """
    store = _store(repository, cache)
    store.open()
    try:
        models = store.catalog().models
        if name not in models:
            known = ", ".join(sorted(models)) or "no model"
            raise ModelNotFound(f"{repository}: there is no model {name!r}; it has {known}")
        number = _number(models[name], name, version, alias)
        digest = models[name].digests[number]
        directory = store.fetch(name, number, digest)
        manifest, found = read_manifest(directory)
        if found != digest:
            raise BundleError(f"{name}:{number}: its manifest has changed meanwhile")
        yield FoundVersion(name, number, digest, directory, manifest)
    finally:
        store.close()


def _store(repository: str, cache: Path | None) -> ModelStore:
    if scheme_of(repository) is None:
        return LocalStore(Path(repository))
    return RemoteStore(repository, BundleCache(cache, _CACHE_BYTES))


def _number(model: ModelDirectory, name: str, version: int | None, alias: str | None) -> int:
    if alias is not None:
        aliases = model.aliases.versions if model.aliases is not None else {}
        if alias not in aliases:
            raise ModelNotFound(f"model {name!r} has no alias {alias!r}")
        version = aliases[alias]
    number = max(model.digests) if version is None else version
    if number not in model.digests:
        has = ", ".join(map(str, sorted(model.digests)))
        raise ModelNotFound(f"model {name!r} has no version {number}; it has {has}")
    return number
