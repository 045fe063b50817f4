"""Which model versions there are, in what state, and which one a name means."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from latentserve_server.errors import BundleError, ConfigError, ModelNotFound, ModelNotReady, StartupError
from latentserve_server.served_model import ServedModel

_logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


class State(Enum):
    """Where a model version stands in its life."""

    LOADING = "loading"
    READY = "ready"
    UNAVAILABLE = "unavailable"


@dataclass(slots=True)
class Entry:
    """One version of one model."""

    name: str
    version: int
    directory: Path
    state: State = State.LOADING
    reason: str = ""
    """Why the version is UNAVAILABLE."""
    model: ServedModel | None = None
    """The model, while READY."""


class Repository:
    """The model versions under one directory, `<name>/<version>/`, and the models opened from them."""

    def __init__(self, root: Path, load: Callable[[str, int, Path], Awaitable[ServedModel]]) -> None:
        self._root = root
        self._load = load
        self._entries: dict[tuple[str, int], Entry] = {}

    async def open(self) -> None:
        """Find and load every version; a broken one becomes UNAVAILABLE and the others are served.

        Raises:
            ConfigError: the directory is missing or holds no bundle. StartupError: not one version could be loaded.
        """
        for name, version, directory in _scan(self._root):
            self._entries[name, version] = Entry(name, version, directory)
        if not self._entries:
            raise ConfigError(f"{self._root}: no model found; bundles lie in <name>/<version>/manifest.json")
        for entry in self.entries():
            await self._open_entry(entry)
        if not any(entry.state is State.READY for entry in self._entries.values()):
            broken = "; ".join(f"{entry.name}/{entry.version}: {entry.reason}" for entry in self.entries())
            raise StartupError(f"{self._root}: no model can be served: {broken}")

    async def close(self) -> None:
        """Close every model."""
        for entry in self.entries():
            model, entry.model = entry.model, None
            if model is not None:
                entry.state, entry.reason = State.UNAVAILABLE, "the server is stopping"
                await model.close()

    def entries(self) -> list[Entry]:
        """Every version, ordered by name, then version."""
        return [self._entries[key] for key in sorted(self._entries)]

    def is_default(self, entry: Entry) -> bool:
        """Whether the entry answers calls that name no version."""
        return entry.model is not None and entry.version == self._latest_ready(entry.name)

    def __contains__(self, name: str) -> bool:
        return any(entry.name == name for entry in self._entries.values())

    def get(self, name: str, version: int | None = None, alias: str | None = None) -> ServedModel:
        """The model that answers for a name: of the given version or alias, else of the highest READY version.

        Raises:
            ModelNotFound: there is no such name, version or alias. ModelNotReady: there is, but it cannot answer now.
        """
        if name not in self:
            raise ModelNotFound(f"model {name!r} is not in the repository")
        if alias is not None:
            raise ModelNotFound(f"model {name!r} has no alias {alias!r}")
        wanted = self._latest_ready(name) if version is None else version
        entry = self._entries.get((name, wanted)) if wanted is not None else None
        if wanted is not None and entry is None:
            raise ModelNotFound(f"model {name!r} has no version {wanted}")
        if entry is None or entry.model is None:
            raise ModelNotReady(self._why_not_ready(name, entry))
        return entry.model

    def _latest_ready(self, name: str) -> int | None:
        ready = (entry.version for entry in self._entries.values() if entry.name == name and entry.model is not None)
        return max(ready, default=None)

    def _why_not_ready(self, name: str, entry: Entry | None) -> str:
        entries = [entry] if entry else [entry for entry in self.entries() if entry.name == name]
        return "; ".join(
            f"model {name!r} version {entry.version} is {entry.state.value}"
            + (f": {entry.reason}" if entry.reason else "")
            for entry in entries
        )

    async def _open_entry(self, entry: Entry) -> None:
        fields = {"model": entry.name, "version": entry.version}
        _logger.info("loading %s version %d", entry.name, entry.version, extra=fields)
        try:
            entry.model = await self._load(entry.name, entry.version, entry.directory)
        except BundleError as error:
            entry.state, entry.reason = State.UNAVAILABLE, str(error)
            _logger.error("%s version %d is unavailable: %s", entry.name, entry.version, error, extra=fields)
        else:
            entry.state = State.READY
            digest = entry.model.identity.digest
            _logger.info("%s version %d is ready", entry.name, entry.version, extra=fields | {"digest": digest})


def _scan(root: Path) -> Iterator[tuple[str, int, Path]]:
    """Every `<name>/<version>/` below root; names that begin with a dot are publications under way."""
    try:
        directories = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise ConfigError(f"{root}: not a readable directory: {error.strerror}") from error
    for directory in directories:
        for version in sorted(path for path in directory.iterdir() if path.is_dir()):
            if version.name.startswith("."):
                continue
            if _NAME.fullmatch(directory.name) and _VERSION.fullmatch(version.name):
                yield directory.name, int(version.name), version
            else:
                _logger.warning("ignored: %s is not <name>/<version>, a positive integer", version.relative_to(root))
