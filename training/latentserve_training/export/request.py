"""What a command line asks latentserve-export for; read before anything that exports is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from latentserve_training.command_line.parser import fill, make_parser
from latentserve_training.export.destination import PublicationRequest, add_publication_options

PrecisionName = Literal["float16", "int8"]


@dataclass(frozen=True, kw_only=True)
class ExportRequest(PublicationRequest):
    """What to export, and where to."""

    run: Path
    data_root: Path | None = None
    precisions: list[PrecisionName] = field(default_factory=list)
    strict: bool = False
    force: bool = False


def parse(argv: Sequence[str] | None, prog: str) -> ExportRequest:
    """The request parsed from a command line.

    Raises:
        ArgumentError: an option is unknown, missing or not allowed.
    """
    parser = make_parser(prog, "Export a run's model as a bundle.", tells_version=False)
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder that latentserve-train made.")
    add_publication_options(parser, default_name="the model family")
    parser.add_argument("--data-root", type=Path | None, help="Folder of the data, where it has moved since training.")
    parser.add_argument(
        "--precisions",
        type=PrecisionName,
        nargs="*",
        default=[],
        help="Lower precisions to add, float16 or int8; what loses too much is left out.",
    )
    parser.add_argument(
        "--strict", action="store_true", help="Fail where a precision is left out, instead of a line that says so."
    )
    parser.add_argument(
        "--force", action="store_true", help="Publish a GAN whose samples have collapsed; the card says so."
    )
    return fill(ExportRequest, parser.parse_args(argv))
