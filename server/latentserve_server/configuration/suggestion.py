"""Suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence that asks for the most similar of the names; empty where none is similar."""
    similar = get_close_matches(name, list(names), n=1)
    return f"; did you mean {similar[0]}?" if similar else ""
