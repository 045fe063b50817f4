"""Models in a directory, served from where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from latentserve_server.aliases import AliasFile, read_aliases, write_aliases
from latentserve_server.catalog import Catalog, read_catalog


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
