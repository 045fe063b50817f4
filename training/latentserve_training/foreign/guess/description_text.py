"""A draft as a description's YAML, with the reasons as comments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from textwrap import wrap
from typing import Any

from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.description_file import SECTIONS
from latentserve_training.foreign.guess.draft import Draft
from latentserve_training.foreign.setting import OPTION, dumped, looked_up, merged, nested

_OPEN = "?"
"""The value of an option that is asked for, which no option may have."""
_WIDTH = 120


def text_of(draft: Draft) -> str:
    """The YAML; an option that is open has the value "?", which a description refuses."""
    content = draft.content
    for key in draft.questions:
        content = merged(content, nested(key.split(".", 2), _OPEN))
    names = sorted(content, key=order_of)
    return "".join(line for name in names for line in _lines(draft, name, content[name]))


def order_of(name: str) -> tuple[bool, int]:
    """Where an option, or one within it, stands among the others: sections come last."""
    first = name.partition(".")[0]
    return first in SECTIONS, [field.name for field in fields(ForeignModel)].index(first)


def _lines(draft: Draft, name: str, value: Any) -> Iterator[str]:
    if name not in SECTIONS or not isinstance(value, dict):
        yield from _option(draft, name, name, value, "")
        return
    yield f"{name}:\n"
    for inner, own in sorted(value.items(), key=lambda item: item[0] != "file"):
        yield from _option(draft, f"{name}.{inner}", inner, own, "  ")


def _option(draft: Draft, key: str, name: str, value: Any, indent: str) -> Iterator[str]:
    for reason in _reasons(draft, key):
        for line in wrap(reason, _WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False):
            yield f"{indent}# {line}\n"
    yield f"{indent}{dumped(name)}: {dumped(value)}\n"


def _reasons(draft: Draft, key: str) -> Iterator[str]:
    """Why an option has its value, one comment each."""
    if key in draft.guesses and draft.guesses[key].reason:
        yield draft.guesses[key].reason
    if looked_up(draft.told, key) is not None and (reason := draft.reasons.get(key, f"told by {OPTION}")):
        yield reason
    for asked, question in draft.questions.items():
        if asked == key or asked.startswith(f"{key}."):
            yield f"open: {question.sentence}"
