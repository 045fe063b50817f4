"""YAML files of options, read before it is known which options exist."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from latentserve_training.errors import ConfigError


def read_options(path: Path, sections: Collection[str], *, may_be_empty: bool = False) -> dict[str, Any]:
    """The mapping in the file; the `sections` present in it are mappings as well, or empty if `may_be_empty`.

    A section within another one has a dotted name, and comes after it.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except AttributeError as error:  # of PyYAML, which takes a tag's word for it
        raise ConfigError(f"{path}: a value is not what its tag says") from error
    except (ValueError, yaml.YAMLError) as error:  # the first of bytes that are no text, and of dates that are none
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no mapping of options")
    for section in sections:
        parent, _, name = section.rpartition(".")
        outer = content.get(parent) or {} if parent else content
        if name not in outer:
            continue
        value = outer[name]
        if not isinstance(value, dict) and not (value is None and may_be_empty):
            held = "empty" if value is None else repr(value)
            raise ConfigError(f"{path}: {section} is {held}; it must hold options of its own")
    return content


def place_of(name: str, path: Path) -> str | None:
    """The file and line that set the option of the dotted name; None if the file does not set it."""
    node, line = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader), 0
    for part in name.split("."):
        entries = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((key, value) for key, value in entries if key.value == part), None)
        if found is None:
            return None
        line, node = found[0].start_mark.line + 1, found[1]
    return f"{path}:{line}"
