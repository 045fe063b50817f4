"""The configuration of a run: parsed from YAML and flags, compared and saved."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from latentserve_training.command_line.parser import make_file_parser
from latentserve_training.command_line.yaml_file import place_of, read_options
from latentserve_training.data import DataConfig
from latentserve_training.errors import ConfigError
from latentserve_training.models import FAMILIES, ModelConfig
from latentserve_training.run.trainer import TrainerConfig

DEFAULT_FAMILY = "conv_vae"
_LARGEST_SEED = 2**64 - 1
_SECTIONS = ("data", "model", "trainer")
_INNER_SECTIONS = ("model.objective", "model.game")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run does, except its folder."""

    seed: int
    data: DataConfig
    model: ModelConfig
    trainer: TrainerConfig

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise ConfigError(f"seed is {self.seed}; it must be 0 to {_LARGEST_SEED}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, nested as in the YAML file."""
        return asdict(self, dict_factory=lambda pairs: {k: str(v) if isinstance(v, Path) else v for k, v in pairs})

    def to_yaml(self) -> str:
        """The YAML file that would repeat this run."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """The configuration that `to_dict` wrote.

    Raises:
        ConfigError: a field is unknown or its value is wrong.
    """
    parser = _parser(_family_of(values), prog="config")
    try:
        return _instantiate(parser, parser.parse_object(dict(values)))
    except ArgumentError as error:
        raise ConfigError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The run that a command line asks for, and its folder."""

    config: RunConfig
    output: Path | None
    """The folder that keeps the run; only a dry run may be without."""
    dry_run: bool


def parse_command_line(argv: Sequence[str] | None, prog: str, description: str) -> RunRequest:
    """The run that a command line (and the YAML files it names) asks for.

    Raises:
        ArgumentError: an option is unknown, missing or of the wrong type, out of range or does not fit the others.
    """
    try:
        return _parse(argv, prog, description)
    except (ArgumentError, ConfigError) as error:
        place = _place_in_files(str(error), argv)
        raise ArgumentError(None, f"{place}: {error}" if place else str(error)) from error


def _place_in_files(problem: str, argv: Sequence[str] | None) -> str | None:
    """The file and line of the option that the message begins with, unless the command line sets it."""
    named = re.match(r"[\w.]*\w", problem)
    words = sys.argv[1:] if argv is None else argv
    if named is None or any(word.partition("=")[0] == f"--{named[0]}" for word in words):
        return None
    places = (place_of(named[0], path) for path in reversed(_scout(argv).config))
    return next(filter(None, places), None)


def _parse(argv: Sequence[str] | None, prog: str, description: str) -> RunRequest:
    parser = _parser(_family_asked_for(argv), prog=prog, description=description)
    parser.add_argument(
        "--output",
        type=Path | None,
        metavar="RUN",
        help="Folder of the run, which is continued if it exists; required without --dry_run.",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="Print the resolved configuration, the model's size, a step's memory and the time it will take, and "
        "write nothing.",
    )
    parser.add_argument(
        "--untuned",
        action="store_true",
        help="Leave malloc and OpenMP as they are, instead of restarting with both tuned for training on a CPU.",
    )
    try:
        namespace = parser.parse_args(argv)
    except UnicodeDecodeError as error:  # of a file that one of these names
        options = ", ".join(f"--{section}" for section in _SECTIONS)
        raise ArgumentError(None, f"{options}: a file of options must be YAML: {error}") from error
    if namespace.output is None and not namespace.dry_run:
        raise ArgumentError(None, "--output is missing; it names the folder of the run")
    return RunRequest(config=_instantiate(parser, namespace), output=namespace.output, dry_run=namespace.dry_run)


def _parser(family: str, prog: str, description: str | None = None) -> ArgumentParser:
    parser = make_file_parser(prog, description)
    parser.add_argument("--config", action="config", help="YAML file of options; later options override earlier ones.")
    parser.add_argument("--seed", type=int, default=1, help="Seed of weights, data order and noise.")
    parser.add_argument("--data", type=DataConfig, default=DataConfig())
    parser.add_class_arguments(
        FAMILIES[family], "model", help=f"The model, of family {family} (known are {', '.join(FAMILIES)})"
    )
    parser.add_class_arguments(TrainerConfig, "trainer")
    return parser


def _instantiate(parser: ArgumentParser, namespace: Any) -> RunConfig:
    try:
        parts = parser.instantiate(namespace)
    except TypeError as error:  # where a file has one value for what has options of its own
        raise ConfigError(str(error)) from error
    return RunConfig(seed=parts.seed, data=parts.data, model=parts.model, trainer=parts.trainer)


def _family_asked_for(argv: Sequence[str] | None) -> str:
    """The model family, which decides what `model.*` options exist and so is read first."""
    asked = _scout(argv)
    files = [_options(path) for path in asked.config]
    if asked.family is not None:
        return _known(asked.family)
    families = [_family_of(file) for file in files]
    return families[-1] if families else DEFAULT_FAMILY


class _Scout(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ArgumentError(None, message.removeprefix("argument "))


def _scout(argv: Sequence[str] | None) -> argparse.Namespace:
    """The files and the family that a command line names; everything else is ignored."""
    scout = _Scout(add_help=False, allow_abbrev=False)
    scout.add_argument("--config", action="append", default=[], type=Path)
    scout.add_argument("--model.family", dest="family")
    return scout.parse_known_args(argv)[0]


def _options(path: Path) -> Mapping[str, Any]:
    try:
        return read_options(path, sections=(*_SECTIONS, *_INNER_SECTIONS))
    except ConfigError as error:
        raise ConfigError(f"--config {error}") from error


def _family_of(values: Mapping[str, Any]) -> str:
    return _known(values.get("model", {}).get("family", DEFAULT_FAMILY))


def _known(family: object) -> str:
    if not isinstance(family, str) or family not in FAMILIES:
        raise ConfigError(f"model.family is {family!r}; known are {', '.join(FAMILIES)}")
    return family


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One "field: old -> new" for every field that is not the same in two configurations."""
    flat_old, flat_new = _flat(old), _flat(new)
    return [
        f"{field}: {flat_old.get(field)} -> {flat_new.get(field)}"
        for field in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(field) != flat_new.get(field)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
