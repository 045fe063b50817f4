"""jsonargparse's error messages, reworded: the option, its value, and what is allowed."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_KEY = re.compile(r'Parser key "([^"]+)"')
_MISSING = re.compile(r"the following arguments are required: ([\w., -]+)")
_UNKNOWN_FLAG = re.compile(r"unrecognized arguments: (\S+)")
_UNKNOWN_KEY = re.compile(r"(?:Group '([^']+)' does not accept option|Option) '([^']+)'")
_VALUE = re.compile(r"(?:Got value: |Given value: |Unable to load config )(.*)$")
_WITHIN = re.compile(r"Problem with given class_path [^:]*:\s*(.*)")
_DEFAULT = re.compile(r"\s*\(default: .*\)\.?$")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
_MANY = {"a whole number": "whole numbers", "a number": "numbers", "a path": "paths"}
_SECTION = "options of its own, or a YAML file of them"
_CLOSE = 0.82
"""difflib's ratio of a misspelt name: `epoch` is close to `epochs`, and `number` is not to `name`."""


def reword(message: str, actions: Sequence[Action], *, bare: bool) -> str:
    """jsonargparse's message, reworded for a parser with these actions.

    `bare` names options as a file does, without dashes. A message that is not known stays as it is.
    """
    if found := _UNKNOWN_KEY.match(message):
        name = ".".join(filter(None, found.groups()))
        return f"{name}: there is no such option{_suggest(name, (action.dest for action in actions))}"
    if found := _UNKNOWN_FLAG.match(message):
        flag = found[1].partition("=")[0]
        if not flag.startswith("-"):
            return f"{flag}: belongs to no option"
        flags = (flag for action in actions for flag in action.option_strings)
        return f"{flag}: there is no such option{_suggest(flag, flags)}"
    if found := _MISSING.match(message):
        missing = [_name(key, actions, bare) for key in found[1].split(", ")]
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    if keys := _KEY.findall(message):
        return _refused_value(message, keys[-1], actions, bare)
    return message.removeprefix("argument ")


def _refused_value(message: str, key: str, actions: Sequence[Action], bare: bool) -> str:
    if found := _WITHIN.search(message):
        return f"{key}.{found[1].lstrip('-')}"
    action = next((action for action in actions if action.dest == key), None)
    allowed = f"must be {_allowed(action)}{_meaning(action)}"
    found = _VALUE.search(message)
    value = f"is {_shown(found[1].strip())}; it " if found else ""
    return f"{_name(key, actions, bare)} {value}{allowed}"


def _name(key: str, actions: Iterable[Action], bare: bool) -> str:
    action = next((action for action in actions if action.dest == key), None)
    if action is None or bare:
        return key
    return action.option_strings[0] if action.option_strings else str(action.metavar)


def _shown(value: str) -> str:
    """A Python value as YAML writes it."""
    value = value[1:-1] if value[:1] in ("'", '"') and value[-1:] == value[:1] else value
    return {"None": "null", "True": "true", "False": "false", "": "empty"}.get(value, value)


def _allowed(action: Action | None) -> str:
    kind = getattr(action, "_typehint", None)
    return _SECTION if kind is None else _described(kind)


def _described(kind: Any) -> str:
    """The type's values in words, such as "a whole number"."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, UnionType):
        return " or ".join(_described(part) for part in parts if part is not NoneType)
    if origin is list:
        elements = _described(parts[0]).split(" or ")
        return f"a list of {' or '.join(_MANY.get(element, element) for element in elements)}"
    if origin is tuple:
        element = _described(parts[0])
        return f"a list of {len(parts)} {_MANY.get(element, element)}"
    return _WORDS.get(kind, _SECTION)


def _meaning(action: Action | None) -> str:
    """What a number counts; of text, how it is written where YAML would read something else."""
    words = _allowed(action)
    quotes = "put it in quotes" if words in ("text", "a path") else "put text in quotes" if "text" in words else ""
    if action is None or "number" not in words or action.help in (None, SUPPRESS):
        return f": {quotes}" if quotes else ""
    return f" ({_DEFAULT.sub('', str(action.help)).rstrip('.')}){f'; {quotes}' if quotes else ''}"


def _suggest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence that asks for the most similar name of the same section; empty where none is close."""
    section, _, own = name.rpartition(".")
    within = (other for other in names if other.rpartition(".")[0] == section and other != name)
    known = {other.rpartition(".")[2].removeprefix("--"): other for other in within}
    close = get_close_matches(own.removeprefix("--"), known, n=1, cutoff=_CLOSE)
    return f"; did you mean {known[close[0]]}?" if close else ""
