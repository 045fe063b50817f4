"""Which model a call is for: its name and, where wanted, an exact version or an alias."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self, TypeAlias

from latentserve_client.errors import RequestError

_MAX_VERSION = 2**63 - 1
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model, and which version of it; neither version nor alias means the default, the highest READY version.

    Attributes:
        name: ASCII letters, digits, "_", "." and "-", the first neither "." nor "-".
        version: an exact version, at least 1.
        alias: a movable name for a version, spelt as names are.

    Raises:
        RequestError: a part is misspelt, or both version and alias are given.
    """

    name: str
    version: int | None = None
    alias: str | None = None

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        if self.alias is not None:
            _check_name("alias", self.alias)
            if self.version is not None:
                raise RequestError(f"model {self.name!r}: give a version or an alias, not both")
        if self.version is not None and not (
            isinstance(self.version, int) and not isinstance(self.version, bool) and 1 <= self.version <= _MAX_VERSION
        ):
            raise RequestError(f"model {self.name!r}: version {self.version!r} is not an integer from 1 to 2^63 - 1")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The model that "name", "name:3" (a version) or "name@stable" (an alias) stands for.

        Raises:
            RequestError: the text is none of the three.
        """
        name, at, alias = text.partition("@")
        if at:
            return cls(name, alias=alias)
        name, colon, version = text.partition(":")
        if not colon:
            return cls(name)
        if _VERSION.fullmatch(version) is None or len(version) > len(str(_MAX_VERSION)):
            raise RequestError(f"model {text!r}: version {version!r} is not an integer from 1 to 2^63 - 1")
        return cls(name, version=int(version))

    def __str__(self) -> str:
        if self.alias is not None:
            return f"{self.name}@{self.alias}"
        return self.name if self.version is None else f"{self.name}:{self.version}"


def _check_name(part: str, value: object) -> None:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise RequestError(
            f"model {part} {value!r} is not letters, digits, '_', '.' and '-', beginning with neither '.' nor '-' "
            "(a model is written name, name:3 or name@alias)"
        )


ModelLike: TypeAlias = str | ModelRef
"""A model as a ModelRef or as the text that ModelRef.parse reads."""
