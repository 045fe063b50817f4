"""Scans of the store, and news of it that is told once: failures, absent and broken versions, stuck aliases."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from latentserve_server.blocking_calls import BlockingCalls
from latentserve_server.errors import ChangeRefused, ConfigError, StoreFailure
from latentserve_server.repository.model import StuckAlias
from latentserve_server.repository.store import Catalog, ModelStore
from latentserve_server.repository.version import ModelVersion

_logger = logging.getLogger(__name__)


class RepositoryObserver(Protocol):
    """What is told of the store, and of what cannot follow it, on the event loop."""

    def scan_ended(self, *, succeeded: bool) -> None:
        """The store could be read, or could not."""
        ...

    def version_missing(self, model: str, version: int, *, is_missing: bool) -> None:
        """The version answers calls, and is not in the store; or that is over."""
        ...

    def version_broken(self, model: str, version: int, *, is_broken: bool) -> None:
        """The version is wanted and does not load; or that is over."""
        ...

    def alias_stuck(self, model: str, alias: str, *, is_stuck: bool) -> None:
        """The alias has become stuck, or is no longer stuck."""
        ...


class Notices:
    """Lines that are logged as warnings once, and again only after they had gone."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def show(self, lines: Iterable[str]) -> None:
        """Have these lines and no others; those that are new are logged."""
        lines = {*lines}
        for line in sorted(lines - self._shown):
            _logger.warning("%s", line)
        self._shown = lines


class Scanner:
    """Scans one store."""

    def __init__(self, store: ModelStore, observer: RepositoryObserver, timeout: float) -> None:
        """A scan may take `timeout` seconds."""
        self._store = store
        self._calls = BlockingCalls(timeout)
        self._observer = observer
        self._problems = Notices()
        self._unreadable = ""
        self.owed: bool | None = None
        """Whether the scan that failed, or did not see all, was to try failed versions again; None where none did."""

    async def first(self) -> Catalog:
        """What the store holds at the start.

        Raises:
            ConfigError: it cannot be read.
        """
        catalog = await self._scan()
        self._note(catalog, retry=False)
        return catalog

    async def take(self, *, retry: bool | None, had_models: bool) -> Catalog:
        """What the store holds now. A scan that fails is owed: with this `retry`, or not at all where it is None.

        Raises:
            ChangeRefused: the store cannot be read, or is empty though it `had_models`; what is served stays.
        """
        try:
            catalog = await self._scan()
            if catalog.is_empty and had_models:  # as under a mount that was lost
                where = f"{self._store.place}: nothing is there, though it had models"
                raise ConfigError(f"{where}; to serve none, unload them")
        except ConfigError as error:
            self._note_failure(str(error))
            self.owed = self.owed if retry is None else retry
            raise ChangeRefused(str(error)) from error
        if self._unreadable:
            _logger.info("%s can be read again", self._store.place)
            self._unreadable = ""
        self._note(catalog, retry=retry)
        return catalog

    async def _scan(self) -> Catalog:
        try:
            return await self._calls.make("scan", self._store.catalog)
        except (StoreFailure, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{self._store.place}: cannot be read: {reason}") from error

    def _note(self, catalog: Catalog, *, retry: bool | None) -> None:
        self._observer.scan_ended(succeeded=True)
        self._problems.show(catalog.problems)
        self.owed = retry if catalog.is_partial else None

    def _note_failure(self, reason: str) -> None:
        self._observer.scan_ended(succeeded=False)
        if reason != self._unreadable:  # said once, not at every poll
            _logger.error("what is served stays: %s", reason)
        self._unreadable = reason


class Absences:
    """Served versions that are missing from the store, as far as they were told of."""

    def __init__(self, removal_delay: float, observer: RepositoryObserver) -> None:
        """A version that is missing is to leave after `removal_delay` seconds."""
        self._removal_delay = removal_delay
        self._observer = observer
        self._told: dict[tuple[str, int], ModelVersion] = {}

    def tell(self, entries: Iterable[ModelVersion]) -> None:
        """Tell of what has changed; `entries` are all that there are."""
        missing = {(entry.name, entry.version): entry for entry in entries if entry.is_missing and entry.model}
        text = "%s version %d is not there; unloaded where that is still so after %g s"
        for name, version in missing.keys() - self._told.keys():
            _logger.warning(text, name, version, self._removal_delay, extra={"model": name, "version": version})
            self._observer.version_missing(name, version, is_missing=True)
        for name, version in self._told.keys() - missing.keys():
            entry = self._told[name, version]
            if entry.exists and not entry.is_missing:
                fields = {"model": name, "version": version}
                _logger.info("%s version %d is there again", name, version, extra=fields)
            self._observer.version_missing(name, version, is_missing=False)
        self._told = missing


class BrokenVersions:
    """Versions that are wanted and do not load, as far as they were told of."""

    def __init__(self, observer: RepositoryObserver) -> None:
        self._observer = observer
        self._told: set[tuple[str, int]] = set()

    def tell(self, entries: Iterable[ModelVersion]) -> None:
        """Tell of what has changed; `entries` are all that are broken."""
        broken = {(entry.name, entry.version) for entry in entries}
        for name, version in broken ^ self._told:
            self._observer.version_broken(name, version, is_broken=(name, version) in broken)
        self._told = broken


class StuckAliases:
    """Aliases that cannot move, as far as they were told of."""

    def __init__(self, observer: RepositoryObserver) -> None:
        self._observer = observer
        self._told: dict[tuple[str, str], str] = {}

    @property
    def problems(self) -> list[str]:
        """What was told of last, in lines."""
        return list(self._told.values())

    def tell(self, aliases: Iterable[StuckAlias]) -> None:
        """Tell of what has changed; `aliases` are all that are stuck."""
        stuck = {(one.model, one.alias): str(one) for one in aliases}
        for (model, alias), line in stuck.items():
            if self._told.get((model, alias)) != line:
                _logger.warning("%s", line, extra={"model": model, "alias": alias})
                self._observer.alias_stuck(model, alias, is_stuck=True)
        for model, alias in self._told.keys() - stuck.keys():
            self._observer.alias_stuck(model, alias, is_stuck=False)
        self._told = stuck
