"""What a command line asks latentserve-import for where another library has saved the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser

from latentserve_training.command_line.parser import fill
from latentserve_training.errors import ConfigError
from latentserve_training.foreign.options import ImportOptions

_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_OWNERS = {
    "image_size": "diffusers",
    "encoder": "keras",
    "encoder_class": "pythae",
    "decoder_class": "pythae",
}
"""Options of one library alone, and whose."""


@dataclass(frozen=True, kw_only=True)
class SavedRequest:
    """What to load and export, and whether it is to be imported."""

    library: Literal["diffusers", "pythae", "keras"]
    """The library that saved the model."""
    path: Path
    """What it saved."""
    told: Mapping[str, Any]
    """Options of the description that go before what the library's configuration says."""
    options: ImportOptions | None
    """Absent where the description is only to be printed; the library's own run is the reference."""
    image_size: int | None = None
    """Height and width of a picture."""
    encoder: Path | None = None
    """The encoder's file, where it has one of its own."""
    encoder_class: str | None = None
    """The encoder's network, as MODULE:CLASS."""
    decoder_class: str | None = None
    """The decoder's network, as MODULE:CLASS."""

    def __post_init__(self) -> None:
        """Raise ConfigError where the options do not go together, or cannot be."""
        for option, owner in _OWNERS.items():
            if getattr(self, option) is not None and self.library != owner:
                raise ConfigError(f"{_flag(option)} is for --from {owner}; --from is {self.library}")
        if self.image_size is not None and self.image_size < 1:
            raise ConfigError(f"--image-size is {self.image_size}; it must be at least 1")
        for option in ("encoder_class", "decoder_class"):
            named = getattr(self, option)
            if named is not None and not _CLASS.fullmatch(named):
                raise ConfigError(f"{_flag(option)} is {named}; it must be MODULE:CLASS")


def add_saved_options(parser: ArgumentParser) -> None:
    """Add --from and what goes with it to a command."""
    parser.add_argument(
        "--from",
        type=Literal["diffusers", "pythae", "keras"] | None,
        metavar="LIBRARY",
        help="Library that saved the model: diffusers, pythae or keras. PATH is then what it saved.",
    )
    parser.add_argument(
        "--image-size",
        type=int | None,
        metavar="PIXELS",
        help="With --from diffusers: height and width of a picture (default: what the configuration says).",
    )
    for role in ("encoder", "decoder"):
        parser.add_argument(
            f"--{role}-class",
            type=str | None,
            metavar="MODULE:CLASS",
            help=f"With --from pythae: class of the {role}, made from the configuration, where it is one of your own.",
        )


def check_saved_options(values: Mapping[str, Any]) -> None:
    """Raise ConfigError where an option does not go with --from, or is for it and that is missing."""
    if values["from"] is not None and values["reference"] is not None:
        raise ConfigError("--reference is for a description; with --from the library itself is the reference")
    lone = next((option for option in _OWNERS if values[option] is not None), None)
    if values["from"] is None and lone is not None and lone != "encoder":  # which goes with a decoder's ONNX file, too
        raise ConfigError(f"{_flag(lone)} is for --from {_OWNERS[lone]}; --from is missing")


def saved_request(values: Mapping[str, Any], told: Mapping[str, Any], options: ImportOptions | None) -> SavedRequest:
    """The request for a saved model, from the parsed values and settings.

    Raises:
        ConfigError: the options do not go together, or there is nothing where the model is said to be.
    """
    path: Path = values["description"]
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or folder")
    return fill(SavedRequest, {**values, "library": values["from"], "path": path, "told": told, "options": options})


def _flag(option: str) -> str:
    return "ENCODER" if option == "encoder" else f"--{option.replace('_', '-')}"
