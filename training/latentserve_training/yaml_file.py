"""What a YAML file of options says, before anyone knows which options there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from latentserve_training.errors import ConfigError


def read_options(path: Path) -> dict[str, Any]:
    """The mapping in the file.

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
    return content
