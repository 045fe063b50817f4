"""The version policy: which of a model's versions are served."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from latentserve_server.errors import OptionError

_LATEST = re.compile(r"latest:([1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """How many of the highest versions to serve. Versions that an alias or a Load names are served besides."""

    latest: int | None
    """The number of versions; 0 for none, None for all."""

    @classmethod
    def parse(cls, text: str) -> VersionPolicy:
        """The policy that "all", "latest:N" or "explicit" stands for.

        Raises:
            OptionError: the text is none of the three.
        """
        if text == "all":
            return cls(None)
        if text == "explicit":
            return cls(0)
        if match := _LATEST.fullmatch(text):
            return cls(int(match[1]))
        raise OptionError("--version-policy", text, "write all, latest:N with N of at least 1, or explicit")

    def choose(self, versions: Sequence[int]) -> set[int]:
        """Those of the versions, given in any order, that are to be served."""
        return set(sorted(versions, reverse=True)[: self.latest])

    def __str__(self) -> str:
        return {None: "all", 0: "explicit"}.get(self.latest, f"latest:{self.latest}")
