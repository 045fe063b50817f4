"""A setting `KEY=VALUE` of the command line, which stands for a line of a description."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from latentserve_training.errors import ConfigError

OPTION = "--set"
_WIDEST = 1 << 20


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """The settings as the mapping that a description's file would hold; of a key that comes twice, the last one counts.

    A key is dotted, such as `decoder.inputs.psi`; a value is YAML.

    Raises:
        ConfigError: a text is no `KEY=VALUE`, or its value is no YAML.
    """
    told: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        parts = key.split(".")
        if not equals or not all(parts):
            raise ConfigError(f"{OPTION} is {text}; it must be KEY=VALUE, such as kind=vae or decoder.inputs.psi=0.7")
        told = merged(told, nested(parts, _value(key, value)))
    return told


def merged(content: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The content with the options of `over` added, or in the place of its own."""
    found = dict(content)
    for key, value in over.items():
        own = found.get(key)
        found[key] = merged(own, value) if isinstance(own, dict) and isinstance(value, dict) else value
    return found


def looked_up(content: Mapping[str, Any], key: str) -> Any:
    """What the content holds under a dotted key; None where it holds nothing."""
    found: Any = content
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def nested(parts: Sequence[str], value: Any) -> dict[str, Any]:
    """The content that holds the value alone, under a key of these parts."""
    first, *rest = parts
    return {first: nested(rest, value) if rest else value}


def setting(key: str, value: Any) -> str:
    """What sets the option to the value, as a shell reads it and as a message shows it."""
    return f"`{OPTION} {shlex.quote(f'{key}={dumped(value)}')}`"


def dumped(value: Any) -> str:
    """The value as YAML, on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=_WIDEST)
    return text.removesuffix("\n").removesuffix("\n...")


def _value(key: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (AttributeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{OPTION} {key}: {text} is no YAML: put text in quotes") from error
