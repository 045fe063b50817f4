"""What a YAML file of options says, before anyone knows which options there are."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from latentserve_training.errors import ConfigError


def read_options(path: Path, sections: Collection[str], *, may_be_empty: bool = False) -> dict[str, Any]:
    """The mapping in the file, in which `sections`, where they are there, are mappings, too, or empty if they may be.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, AttributeError, yaml.YAMLError) as error:  # the first two of dates that are none, and the like
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no mapping of options")
    for section in filter(content.__contains__, sections):
        value = content[section]
        if not isinstance(value, dict) and not (value is None and may_be_empty):
            held = "empty" if value is None else repr(value)
            raise ConfigError(f"{path}: {section} is {held}; it must hold options of its own")
    return content
