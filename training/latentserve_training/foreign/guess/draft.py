"""A description in the making: what was told, what is guessed and why, and what is still open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from latentserve_training.foreign.setting import looked_up, merged


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
    guesses: dict[str, Guess] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)

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
        content: dict[str, Any] = {}
        for guess in self.guesses.values():
            *sections, name = guess.key.split(".", 1)
            own = {name: guess.value}
            content = merged(content, {sections[0]: own} if sections else own)
        return merged(content, self.told)
