"""A description's YAML: read from a file, or from what stands for one, into the model that it describes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from latentserve_training.command_line.parser import make_file_parser
from latentserve_training.command_line.yaml_file import place_of, read_options
from latentserve_training.errors import ConfigError
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.setting import OPTION, looked_up, merged

SECTIONS = ("decoder", "encoder", "reading")


def read_description(path: Path, told: Mapping[str, Any]) -> ForeignModel:
    """The model that the YAML file describes, with the settings `told` in the place of its own.

    Raises:
        ConfigError: the file cannot be read, or a value is unknown, missing or not allowed.
    """
    content = read_options(path, sections=SECTIONS, may_be_empty=True)
    _check_sections(told)

    def place(option: str) -> str:
        return OPTION if looked_up(told, option) is not None else place_of(option, path) or str(path)

    return describe(merged(in_full(content), in_full(told)), place, str(path))


def describe(content: Mapping[str, Any], place: Callable[[str], str], source: str) -> ForeignModel:
    """The model that the options describe.

    For messages, `place` says where an option was set, and `source` where a missing one might be.

    Raises:
        ConfigError: an option is unknown, missing or not allowed.
    """
    parser = _parser()
    given = {key: value for key, value in in_full(content).items() if value is not None or key not in SECTIONS}
    with _placed(place, source):
        values = parser.instantiate(parser.parse_object(given))
        return ForeignModel(**{name: getattr(values, name) for name in ForeignModel.__dataclass_fields__})


def check_settings(told: Mapping[str, Any]) -> None:
    """Raise ConfigError for a setting that is unknown or of another type, whatever the rest of a description says."""
    _check_sections(told)
    anything: dict[str, Any] = {"kind": "gan", "decoder": {"file": "decoder.onnx"}}
    if isinstance(told.get("encoder"), dict):
        anything["encoder"] = {"file": "encoder.onnx"}
    with _placed(lambda _: OPTION, OPTION):
        _parser().parse_object(merged(anything, in_full(told)))


def in_full(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with `moments: NAME` as the mapping that it is short for."""
    encoder = content.get("encoder")
    if not isinstance(encoder, dict) or not isinstance(encoder.get("moments"), str):
        return dict(content)
    return {**content, "encoder": {**encoder, "moments": {"tensor": encoder["moments"]}}}


def _parser() -> ArgumentParser:
    parser = make_file_parser()
    parser.add_class_arguments(ForeignModel)
    return parser


def _check_sections(told: Mapping[str, Any]) -> None:
    """Raise ConfigError for a setting that puts something else in the place of a section's options."""
    for section in SECTIONS:
        value = told.get(section)
        if value is not None and not isinstance(value, dict):
            raise ConfigError(f"{OPTION}: {section} is {value!r}; it must hold options of its own")


@contextmanager
def _placed(place: Callable[[str], str], source: str) -> Iterator[None]:
    """While entered, errors become ConfigErrors that begin with the place of what they name."""
    try:
        yield
    except (ConfigError, ArgumentError, TypeError) as error:
        named = re.match(r"[\w.]*\w", str(error))
        raise ConfigError(f"{place(named[0]) if named else source}: {error}") from error
