"""The server's options: their names and allowed values, texts read as values, misspelt names."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from latentserve_server.configuration.config import ServerConfig

PREFIX: Final = "LATENTSERVE_"
"""What the names of the variables begin with."""

_CLOSE = 0.82
"""difflib's ratio of a misspelt name: `devise` is close to `device`, and `metrics` is not to `numerics`."""

_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """What one source says of an option."""

    text: str
    origin: str
    """Where it stands: a flag, a variable, or a file and its line."""
    quotation: str
    """The text as it stands there, with its name."""


@dataclass(frozen=True, slots=True)
class Option:
    """A field of ServerConfig."""

    name: str
    """As a YAML key."""
    kind: Any
    """str, int, float, bool, a Literal of texts, or int and such a Literal."""
    default: Any
    """dataclasses.MISSING where a value must be given."""

    @property
    def description(self) -> str:
        """A sentence, which says of a number what it counts."""
        return _descriptions()[self.name]

    @property
    def words(self) -> tuple[str, ...]:
        """Texts that it may be, in the place of a number or alone."""
        kinds = (self.kind, *get_args(self.kind))
        return tuple(word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind))

    @property
    def number(self) -> type[int] | type[float] | None:
        """The kind of number that it may be."""
        return next((kind for kind in (int, float) if kind in (self.kind, *get_args(self.kind))), None)

    @property
    def flag(self) -> str:
        """On the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """In the environment."""
        return f"{PREFIX}{self.name.upper()}"

    @property
    def is_required(self) -> bool:
        """Whether a value must be given."""
        return self.default is dataclasses.MISSING

    def read(self, text: str) -> Any:
        """The value that a text stands for, whatever source it is from.

        Raises:
            ValueError: it stands for none; says what is allowed.
        """
        if self.kind is str:
            return text
        if text in self.words:
            return text
        if self.number:
            return self._read_number(text, self.number)
        if self.kind is bool:
            return self._read_truth(text)
        raise ValueError(f"must be one of {', '.join(self.words)}")

    def explain(self, problem: str) -> str:
        """The problem with a value; of a number, with what it counts, such as seconds or bytes."""
        if not self.number:
            return problem
        first, rest = self.description[:1], self.description[1:].rstrip(".")
        return f"{problem} ({first.lower()}{rest})"

    def _read_truth(self, text: str) -> bool:
        if text.lower() not in _TRUTHS:
            raise ValueError("must be true or false")
        return _TRUTHS[text.lower()]

    def _read_number(self, text: str, kind: type[int] | type[float]) -> int | float:
        try:
            value: int | float = kind(text)
        except ValueError:
            value = math.nan
        # Python's own readers take more: digits of other scripts, blanks around them, infinity.
        if not re.fullmatch(r"[-+0-9._eE]+", text) or not math.isfinite(value):
            words = "".join(f"{word}, or " for word in self.words)
            raise ValueError(self.explain(f"must be {words}a {'whole ' if kind is int else ''}number"))
        return value


def server_options() -> list[Option]:
    """Every field of ServerConfig, in its order."""
    kinds = get_type_hints(ServerConfig)
    return [Option(field.name, kinds[field.name], field.default) for field in dataclasses.fields(ServerConfig)]


@cache
def _descriptions() -> Mapping[str, str]:
    """What the source says below each field."""
    import docstring_parser  # for help and for errors: a server that starts reads no source

    parsed = docstring_parser.parse_from_object(ServerConfig)
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in parsed.params}


def suggest(name: str, names: Iterable[str], *, prefix: str = "") -> str:
    """The end of a sentence that asks for the most similar of the names; empty where none is close.

    What all of them begin with is the `prefix`, which says nothing of what was meant.
    """
    known = {other.removeprefix(prefix): other for other in names}
    close = get_close_matches(name.removeprefix(prefix), known, n=1, cutoff=_CLOSE)
    return f"; did you mean {known[close[0]]}?" if close else ""
