"""A description in the making: what was told, what is guessed and why, and what is still open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from latentserve_training.foreign.setting import looked_up, merged, nested


@dataclass(frozen=True)
class Guess:
    """A value for an option of a description, for want of a better one."""

    key: str
    """Dotted, such as "decoder.latent"."""
    value: Any
    """As YAML reads it."""
    reason: str
    """A clause; empty where it needs none."""


@dataclass(frozen=True)
class Question:
    """What a graph does not say, and no guess may."""

    key: str
    """The option that the answer sets, dotted."""
    sentence: str
    """The question, with the settings that answer it."""


@dataclass
class Draft:
    """A description whose options are told, guessed or asked for; a guess or a question never touches what is told."""

    told: Mapping[str, Any]
    """As a description's file would hold it."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why options are told so, where a setting is not why."""
    guesses: dict[str, Guess] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)

    @classmethod
    def of(cls, stated: Sequence[Guess], settings: Mapping[str, Any]) -> Draft:
        """A draft that is told what a library states, with the settings added, or in the place of that."""
        left = [guess for guess in stated if looked_up(settings, guess.key) is None]
        return cls(merged(_content(left), settings), {guess.key: guess.reason for guess in left})

    def is_told(self, key: str) -> bool:
        """Whether the option, or one within it, was told."""
        return looked_up(self.told, key) is not None

    def value(self, key: str) -> Any:
        """The option's value as it was told or guessed; None where it is neither."""
        told = looked_up(self.told, key)
        guessed = self.guesses[key].value if key in self.guesses else None
        if isinstance(guessed, dict) and isinstance(told, dict):
            return merged(guessed, told)
        return guessed if told is None else told

    def part(self, key: str) -> Any:
        """What `content` holds under a dotted key of any depth; None where it holds nothing."""
        return looked_up(self.content, key)

    def is_open(self, key: str) -> bool:
        """Whether the option was asked for."""
        return key in self.questions

    def guess(self, key: str, value: Any, reason: str) -> None:
        """Take the value for the option; of one that holds options, those that were not told."""
        if not self.is_told(key) or isinstance(value, dict):
            self.guesses[key] = Guess(key, value, reason)

    def ask(self, key: str, sentence: str) -> None:
        """Leave the option open, unless it was told."""
        if not self.is_told(key):
            self.questions[key] = Question(key, sentence)

    @property
    def content(self) -> dict[str, Any]:
        """What is told and guessed, as a description's file would hold it."""
        return merged(_content(self.guesses.values()), self.told)


def _content(guesses: Iterable[Guess]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for guess in guesses:
        content = merged(content, nested(guess.key.split(".", 1), guess.value))
    return content
