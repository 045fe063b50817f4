"""What a command line asks latentserve-import for; read before anything that imports a model is imported."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from latentserve_training.command_line.parser import fill, make_parser
from latentserve_training.errors import ConfigError
from latentserve_training.export.destination import add_publication_options
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.description_file import check_settings, in_full, read_description
from latentserve_training.foreign.guess.draft import Guess
from latentserve_training.foreign.options import DEFAULT_TOLERANCE, ImportOptions
from latentserve_training.foreign.saved.request import (
    SavedRequest,
    add_saved_options,
    check_saved_options,
    saved_request,
)
from latentserve_training.foreign.setting import OPTION, looked_up, read_settings

_DESCRIBE_ONLY = "--describe-only"
_ONNX = ".onnx"


@dataclass(frozen=True, kw_only=True)
class ImportRequest(ImportOptions):
    """What to import, and where to."""

    description: ForeignModel
    folder: Path
    """What the files of the description are relative to."""


@dataclass(frozen=True, kw_only=True)
class DescriptionRequest:
    """ONNX files that nobody has described: what is known of them, and whether they are to be imported, too."""

    decoder: Path
    encoder: Path | None
    source: Path
    """What the command line names, for messages."""
    told: Mapping[str, Any]
    """Options of the description, as its file would hold them."""
    options: ImportOptions | None
    """Absent where the description is only to be printed."""
    stated: Sequence[Guess] = ()
    """What the library that saved the model says of it; what is told goes before that."""
    places: Mapping[str, Any] = field(default_factory=dict)
    """Where files lie that a printed description calls otherwise, as its file would hold it."""

    def described(self, description: ForeignModel) -> ImportRequest | None:
        """The import of the files as they are described; None where there is to be none."""
        if self.options is None:
            return None
        return ImportRequest(**vars(self.options), description=description, folder=Path())


def parse(argv: Sequence[str] | None, prog: str) -> ImportRequest | DescriptionRequest | SavedRequest:
    """The request parsed from a command line; with --from it is for a saved model.

    Raises:
        ArgumentError: an option, or one of the description, is unknown, missing or not allowed.
    """
    argv = sys.argv[1:] if argv is None else argv
    values = _parser(prog, publishes=_DESCRIBE_ONLY not in argv).parse_args(argv)
    try:
        told = read_settings(values.set or ())
        check_saved_options(vars(values))
        saved = values["from"] is not None
        if saved or values.description.suffix.lower() == _ONNX:
            options = None if values.describe_only else fill(ImportOptions, values)
            check_settings(told)
            told = in_full(told)
            _check_files(told, values.description, values.encoder, whole=saved)
            if saved:
                return saved_request(vars(values), told, options)
            return _description_request(values.description, values.encoder, told, options)
        if values.encoder is not None:
            raise ConfigError(f"{values.encoder}: belongs to no option; {values.description} names the encoder's file")
        if values.describe_only:
            raise ConfigError(f"{_DESCRIBE_ONLY} is for ONNX files; {values.description} is a description already")
        description = read_description(values.description, told)
    except ConfigError as error:
        raise ArgumentError(None, str(error)) from error
    return fill(ImportRequest, {**vars(values), "description": description, "folder": values.description.parent})


def _check_files(told: Mapping[str, Any], decoder: Path, encoder: Path | None, *, whole: bool) -> None:
    """Raise ConfigError where a setting names another file for a graph that is named by itself.

    `whole` is for a model whose encoder is in what is named first.
    """
    for key, place in (("decoder.file", decoder), ("encoder.file", encoder or (decoder if whole else None))):
        if place is not None and looked_up(told, key) is not None:
            raise ConfigError(f"{OPTION}: {key} is not for a file that is named by itself, here {place}")


def _description_request(
    decoder: Path, encoder: Path | None, told: Mapping[str, Any], options: ImportOptions | None
) -> DescriptionRequest:
    named = looked_up(told, "encoder.file")
    return DescriptionRequest(
        decoder=decoder, encoder=encoder or (named and Path(named)), source=decoder, told=told, options=options
    )


def _parser(prog: str, *, publishes: bool) -> ArgumentParser:
    parser = make_parser(prog, "Import ONNX files as a bundle.", tells_version=False)
    parser.add_argument(
        "description",
        type=Path,
        metavar="PATH",
        help="YAML file that says what the ONNX files are, or the decoder's .onnx file, which is asked itself, or what "
        "the library of --from saved.",
    )
    parser.add_argument(
        "encoder",
        type=Path | None,
        nargs="?",
        metavar="ENCODER",
        help="The encoder's file, behind a decoder's ONNX or Keras file.",
    )
    add_saved_options(parser)
    add_publication_options(parser, required=publishes)
    parser.add_argument(
        OPTION,
        type=str,
        action="append",
        metavar="KEY=VALUE",
        help="Option of the description, such as kind=vae or decoder.inputs.psi=0.7; may be given several times.",
    )
    parser.add_argument(
        _DESCRIBE_ONLY,
        action="store_true",
        help="Print the description of ONNX files, or of a saved model, as YAML and import nothing; needs no "
        "--repository and no --name.",
    )
    parser.add_argument(
        "--reference",
        type=Path | None,
        metavar="NPZ",
        help="NumPy archive of what the model's own framework drew, which the import must draw, too.",
    )
    parser.add_argument(
        "--reference-tolerance",
        type=float,
        default=DEFAULT_TOLERANCE,
        help="Largest difference from the reference, as a fraction of a tensor's largest value or of 1.",
    )
    return parser
