"""Served versions that are missing from the store: logged and measured."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from latentserve_server.repository.version import ModelVersion

_logger = logging.getLogger(__name__)


class AbsenceObserver(Protocol):
    """What is told of versions that are missing, on the event loop."""

    def version_missing(self, model: str, version: int, *, is_missing: bool) -> None:
        """The version answers calls, and is not in the store; or that is over."""
        ...


class Absences:
    """The absences that were told of."""

    def __init__(self, removal_delay: float, observer: AbsenceObserver) -> None:
        """A version that is missing is to leave after `removal_delay` seconds."""
        self._removal_delay = removal_delay
        self._observer = observer
        self._told: dict[tuple[str, int], ModelVersion] = {}

    def tell(self, entries: Iterable[ModelVersion]) -> None:
        """Tell of what has changed; `entries` are all that there are."""
        missing = {(entry.name, entry.version): entry for entry in entries if entry.is_missing and entry.leased}
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
