"""What a command line asks latentserve-import for; read before anything that imports a model is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentError

from latentserve_training.command_line.parser import fill, make_parser
from latentserve_training.errors import ConfigError
from latentserve_training.export.destination import PublicationRequest, add_publication_options
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.description_file import read_description

DEFAULT_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class ImportRequest(PublicationRequest):
    """What to import, and where to."""

    description: ForeignModel
    folder: Path
    """What the files of the description are relative to."""
    name: str
    reference: Path | None = None
    """NumPy archive of what the model's own framework drew, relative to the working directory."""
    reference_tolerance: float = DEFAULT_TOLERANCE
    """The largest difference from it that is allowed, a fraction of a tensor's largest value, or of 1 if less."""

    def __post_init__(self) -> None:
        """Raise ExportError where the name or the version cannot be served, ConfigError for the tolerance."""
        super().__post_init__()
        if not 0 < self.reference_tolerance < 1:
            raise ConfigError(f"--reference-tolerance is {self.reference_tolerance:g}; it must be above 0 and below 1")


def parse(argv: Sequence[str] | None, prog: str) -> ImportRequest:
    """The request parsed from a command line.

    Raises:
        ArgumentError: an option, or one of the description, is unknown, missing or not allowed.
    """
    parser = make_parser(prog, "Import ONNX files as a bundle.", tells_version=False)
    parser.add_argument("description", type=Path, metavar="YAML", help="File that says what the ONNX files are.")
    add_publication_options(parser)
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
    values = parser.parse_args(argv)
    try:
        description = read_description(values.description)
    except ConfigError as error:
        raise ArgumentError(None, str(error)) from error
    folder = values.description.parent
    return fill(ImportRequest, {**vars(values), "description": description, "folder": folder})
