"""Aliases that cannot move: logged and measured."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from latentserve_server.repository.model import StuckAlias

_logger = logging.getLogger(__name__)


class AliasObserver(Protocol):
    """What is told of aliases, on the event loop."""

    def alias_stuck(self, model: str, alias: str, *, is_stuck: bool) -> None:
        """The alias has become stuck, or is no longer stuck."""
        ...


class StuckAliases:
    """The aliases that were told of."""

    def __init__(self, observer: AliasObserver) -> None:
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
