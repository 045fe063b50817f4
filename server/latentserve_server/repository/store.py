"""The store of a repository's models, and the one that is a directory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from latentserve_server.errors import ChangeRefused
from latentserve_server.repository.aliases import (
    FILE,
    MAX_ALIASES_BYTES,
    AliasFile,
    alias_bytes,
    read_aliases,
    write_aliases,
)
from latentserve_server.repository.catalog import Catalog, read_catalog

_logger = logging.getLogger(__name__)


class ModelStore(Protocol):
    """The models of a repository, to be looked through and fetched. Every method blocks: call it on a thread."""

    @property
    def place(self) -> str:
        """The directory or the URL, as it was configured."""
        ...

    def open(self) -> None:
        """Make the store ready for use.

        Raises:
            ConfigError: it cannot be used as it is configured.
        """
        ...

    def close(self) -> None:
        """Free what `open` took, and end a `fetch` under way on another thread at its next part. Harmless twice."""
        ...

    def catalog(self) -> Catalog:
        """What there is now.

        Raises:
            ConfigError: the store is not there, or cannot be read.
        """
        ...

    def fetch(self, name: str, version: int, digest: str) -> Path:
        """A local directory with the bundle; `digest` is that of its manifest, as the catalog has it.

        Raises:
            BundleError: the bundle is damaged, or larger than is allowed. StoreFailure: it cannot be had now.
        """
        ...

    def read_aliases(self, name: str) -> AliasFile:
        """The alias file of a model; an empty one where there is no file.

        Raises:
            ValueError: the file is not an object of versions by alias. OSError: it cannot be read.
        """
        ...

    def write_aliases(self, name: str, versions: Mapping[str, int]) -> AliasFile:
        """Replace the alias file of a model, so that a reader sees the old one or the new one.

        Raises:
            OSError: it cannot be written.
        """
        ...


def store_alias(
    store: ModelStore, name: str, known: AliasFile, alias: str, version: int | None
) -> tuple[bool, AliasFile]:
    """Change one alias in a model's file and in what is known of it; returns whether the file could be written.

    Raises:
        ChangeRefused: the file is damaged, cannot be read, or would be too long to be read again.
    """
    try:
        found = store.read_aliases(name)
    except (ValueError, OSError) as error:
        raise ChangeRefused(f"{name}: {error}") from error
    current = known if found.digest in ("", known.digest) else found  # a file that is missing may come back
    others = {other: target for other, target in current.versions.items() if other != alias}
    wanted = others | ({} if version is None else {alias: version})
    if len(alias_bytes(wanted)) > MAX_ALIASES_BYTES:
        raise ChangeRefused(f"{name}: {FILE} would be longer than {MAX_ALIASES_BYTES} bytes; delete some")
    try:
        return True, store.write_aliases(name, wanted)
    except OSError as error:
        _logger.warning("alias %s of %s is not stored: %s", alias, name, error)
        return False, AliasFile(wanted, current.digest)


class LocalStore:
    """The models of a directory, as a `ModelStore`."""

    def __init__(self, root: Path, links_within: Path | None = None) -> None:
        """Manifests may be links that end inside `links_within`."""
        self._root = root
        self._links_within = links_within

    @property
    def place(self) -> str:
        """The directory."""
        return str(self._root)

    def open(self) -> None:
        """Nothing is to be done."""

    def close(self) -> None:
        """Nothing is to be done."""

    def catalog(self) -> Catalog:
        """As `read_catalog`."""
        return read_catalog(self._root, self._links_within)

    def fetch(self, name: str, version: int, digest: str) -> Path:
        """The bundle's own directory."""
        return self._root / name / str(version)

    def read_aliases(self, name: str) -> AliasFile:
        """As `aliases.read_aliases`."""
        return read_aliases(self._root / name)

    def write_aliases(self, name: str, versions: Mapping[str, int]) -> AliasFile:
        """As `aliases.write_aliases`."""
        return write_aliases(self._root / name, versions)
