"""The YAML file of options, read and written; alone imports yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from latentserve_server.configuration.option import Option, Setting, suggest
from latentserve_server.errors import ConfigError

_NULL = "tag:yaml.org,2002:null"


def read_config_file(named: Setting, options: Mapping[str, Option]) -> dict[str, Setting]:
    """What the file that `named` names says of the options, by their names.

    Values count as they are written: `off` is the text "off" where a text is meant, quoted or not.

    Raises:
        ConfigError: the file cannot be read, or holds something else than options, each once and with one value.
    """
    settings: dict[str, Setting] = {}
    for key, value in _entries(named):
        place = f"{named.text}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or key.value not in options:
            name = key.value if isinstance(key, yaml.ScalarNode) else "a key that is no text"
            raise ConfigError(f"{place}: {name}: there is no such option{suggest(name, options)}")
        if key.value in settings:
            raise ConfigError(f"{place}: {key.value}: stands there twice, first at {settings[key.value].origin}")
        if not isinstance(value, yaml.ScalarNode):
            raise ConfigError(f"{place}: {key.value}: must be one value, neither a list nor a mapping")
        text = "" if value.tag == _NULL else value.value
        settings[key.value] = Setting(text, place, f"{place}: {key.value}: {text}")
    return settings


def write_config_file(values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """A file of the values by their names, each with where it comes from as a comment."""
    lines = ((yaml.safe_dump({name: value}, width=2**31).strip(), origins[name]) for name, value in values.items())
    return "".join(f"{line}  # {origin}\n" for line, origin in lines)


def _entries(named: Setting) -> Sequence[tuple[yaml.Node, yaml.Node]]:
    path = named.text
    if not path:
        raise ConfigError(f"{named.quotation}: names no file")
    try:
        root = yaml.compose(Path(path).read_bytes(), yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{named.quotation}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: no YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    if root is None:
        return ()
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        raise ConfigError(f"{path}:{line}: must be a mapping of options to values, such as cpu_threads: 2")
    entries: list[tuple[yaml.Node, yaml.Node]] = root.value
    return entries
