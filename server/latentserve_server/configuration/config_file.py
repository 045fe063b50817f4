"""The YAML file of options, read and written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from latentserve_server.configuration.option import Option, Setting, suggest
from latentserve_server.configuration.yaml_file import Node, compose, line_of, pairs_of, text_of, write
from latentserve_server.errors import ConfigError


def read_config_file(named: Setting, options: Mapping[str, Option]) -> dict[str, Setting]:
    """What the file that `named` names says of the options, by their names.

    Raises:
        ConfigError: the file cannot be read, or holds something else than options, each once and with one value.
    """
    settings: dict[str, Setting] = {}
    for key, line, value in _entries(named):
        place = f"{named.text}:{line}"
        if key is None or key not in options:
            name = "a key that is no text" if key is None else key
            raise ConfigError(f"{place}: {name}: there is no such option{suggest(name, options)}")
        if key in settings:
            raise ConfigError(f"{place}: {key}: stands there twice, first at {settings[key].origin}")
        text = text_of(value)
        if text is None:
            raise ConfigError(f"{place}: {key}: must be one value, neither a list nor a mapping")
        settings[key] = Setting(text, place, f"{place}: {key}: {text}")
    return settings


def write_config_file(values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """A file of the values by their names, each with where it comes from as a comment."""
    lines = ((write({name: value}).strip(), origins[name]) for name, value in values.items())
    return "".join(f"{line}  # {origin}\n" for line, origin in lines)


def _entries(named: Setting) -> Iterable[tuple[str | None, int, Node]]:
    path = named.text
    if not path:
        raise ConfigError(f"{named.quotation}: names no file")
    try:
        root = compose(Path(path).read_bytes(), path)
    except OSError as error:
        raise ConfigError(f"{named.quotation}: {error.strerror}") from error
    if root is None:
        return ()
    entries = pairs_of(root)
    if entries is None:
        raise ConfigError(f"{path}:{line_of(root)}: must be a mapping of options to values, such as cpu_threads: 2")
    return entries
