"""A description's YAML file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError

from latentserve_training.command_line.parser import make_file_parser
from latentserve_training.command_line.yaml_file import place_of, read_options
from latentserve_training.errors import ConfigError
from latentserve_training.foreign.description import ForeignModel

_SECTIONS = ("decoder", "encoder", "reading")


def read_description(path: Path) -> ForeignModel:
    """The model that the YAML file describes.

    Raises:
        ConfigError: the file cannot be read, or a value is unknown, missing or not allowed.
    """
    parser = make_file_parser()
    parser.add_class_arguments(ForeignModel)
    content = read_options(path, sections=_SECTIONS, may_be_empty=True)
    content = {key: value for key, value in content.items() if value is not None or key not in _SECTIONS}
    try:
        values = parser.instantiate(parser.parse_object(_in_full(content)))
        return ForeignModel(**{name: getattr(values, name) for name in ForeignModel.__dataclass_fields__})
    except (ConfigError, ArgumentError, TypeError) as error:
        named = re.match(r"[\w.]*\w", str(error))
        place = named and place_of(named[0], path)
        raise ConfigError(f"{place or path}: {error}") from error


def _in_full(content: dict[str, Any]) -> dict[str, Any]:
    """The content with `moments: NAME` as the mapping that it is short for."""
    encoder = content.get("encoder")
    if not encoder or not isinstance(encoder.get("moments"), str):
        return content
    return {**content, "encoder": {**encoder, "moments": {"tensor": encoder["moments"]}}}
