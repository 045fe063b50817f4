"""The version policy: how many of a model's versions are served, from the option's text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from latentserve_server.errors import OptionError

_LATEST = re.compile(r"latest:([1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """How many of the highest versions to serve. Versions that an alias or a Load names are served besides."""

    text: str
    """As it is configured."""
    latest: int | None
    """The number of versions; 0 for none, None for all."""

    @classmethod
    def parse(cls, text: str) -> VersionPolicy:
        """The policy that "all", "latest:N" or "explicit" stands for.

        Raises:
            OptionError: the text is none of the three.
        """
        if text == "all":
            return cls(text, None)
        if text == "explicit":
            return cls(text, 0)
        if match := _LATEST.fullmatch(text):
            return cls(text, int(match[1]))
        raise OptionError("--version-policy", text, "write all, latest:N with N of at least 1, or explicit")
