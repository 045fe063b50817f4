"""Scans of the store: timed, logged once where they fail, and repeated."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from latentserve_server.blocking_calls import BlockingCalls
from latentserve_server.errors import ChangeRefused, ConfigError, StoreFailure
from latentserve_server.repository.catalog import Catalog
from latentserve_server.repository.store import ModelStore

_logger = logging.getLogger(__name__)


class ScanObserver(Protocol):
    """What is told of every scan, on the event loop."""

    def scan_ended(self, *, succeeded: bool) -> None:
        """The store could be read, or could not."""
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

    def __init__(self, store: ModelStore, observer: ScanObserver, timeout: float) -> None:
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
