"""A caller: a name, scopes, and the models that it may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from latentserve_server.access.allowance import UNSTATED, Limits

EVERY_MODEL = "*"


class Scope(StrEnum):
    """What a caller may do. None of them implies another."""

    GENERATE = "generate"
    """Run models, and read what they are."""
    READ = "read"
    """Read which models there are, and what they are."""
    ADMIN = "admin"
    """Change what is served."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a token names."""

    name: str
    """In the log."""
    scopes: frozenset[Scope]
    models: Sequence[str] = (EVERY_MODEL,)
    """Patterns of the names of models: `*` stands for any characters, `?` for one, `[ab]` for one of these."""
    counted_as: str = ""
    """In the metrics; one of few."""
    limits: Limits = UNSTATED
    """What it may have at a time."""

    def may(self, scope: Scope) -> bool:
        """Whether it has the scope."""
        return scope in self.scopes

    def may_use(self, model: str) -> bool:
        """Whether it may use, and know of, a model of this name in the repository, be there one or not."""
        return self.may_use_every_model or any(fnmatchcase(model, pattern) for pattern in self.models)

    @property
    def may_use_every_model(self) -> bool:
        """Whether there is no model that it may not use."""
        return EVERY_MODEL in self.models
