"""The place, name and licence of a bundle in a repository, and their options."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser

from latentserve.contract import MAX_VERSION, NAME
from latentserve_training.errors import ExportError
from latentserve_training.export.bundle import require_free

_VERSION_PATTERN = re.compile(r"[1-9][0-9]{0,17}")


def check_name(name: str) -> None:
    """Raise ExportError unless `name` can be a model's directory."""
    if not NAME.fullmatch(name):
        raise ExportError(
            f"--name {name!r} is not a model name: letters, digits, '.', '_' and '-', the first neither '.' nor '-'"
        )


def check_version(version: int) -> None:
    """Raise ExportError unless `version` can be a version's directory."""
    if not 1 <= version <= MAX_VERSION:
        raise ExportError(f"--version is {version}; it must be from 1 to {MAX_VERSION}")


def choose_version(model_folder: Path, version: int | None) -> int:
    """`version`, or one above the highest in the folder.

    Raises:
        ExportError: the version cannot be served, or exists already.
    """
    if version is None:
        version = max(_versions(model_folder), default=0) + 1
    check_version(version)
    require_free(model_folder / str(version))
    return version


def _versions(model_folder: Path) -> list[int]:
    if not model_folder.is_dir():
        return []
    return [int(entry.name) for entry in model_folder.iterdir() if _VERSION_PATTERN.fullmatch(entry.name)]


@dataclass(frozen=True, kw_only=True)
class PublicationRequest:
    """The values of the options that `add_publication_options` adds."""

    repository: Path
    name: str | None = None
    version: int | None = None
    license: str = ""

    def __post_init__(self) -> None:
        """Raise ExportError where the name or the version cannot be served."""
        if self.name is not None:
            check_name(self.name)
        if self.version is not None:
            check_version(self.version)


def add_publication_options(parser: ArgumentParser, *, default_name: str | None = None, required: bool = True) -> None:
    """Add --repository, --name, --version and --license to a command.

    `default_name` tells the help what name an absent --name (None) stands for; without it --name is required.
    Nothing is `required` of a command line that publishes nothing.
    """
    parser.add_argument(
        "--repository",
        type=_FolderType(),
        required=required,
        help="Folder of models; the bundle goes into NAME/VERSION.",
    )
    if default_name is None:
        parser.add_argument("--name", type=str, required=required, help="Name to serve under.")
    else:
        parser.add_argument("--name", type=str | None, help=f"Name to serve under (default: {default_name}).")
    parser.add_argument(
        "--version", type=int | None, help="Version of the bundle, at least 1 (default: one above the highest)."
    )
    parser.add_argument("--license", type=str, default="", help="SPDX identifier of the model's licence.")


class _FolderType:
    """Reads a path; a URL is refused, since it would become a folder with an odd name."""

    def __call__(self, text: str | Path) -> Path:
        if "://" in str(text):
            raise ArgumentTypeError(f"{text} is a URL; publish into a folder, and copy its bundles there")
        return Path(text)


@dataclass(frozen=True, kw_only=True)
class Destination:
    """The place of one bundle."""

    repository: Path
    name: str
    version: int

    @classmethod
    def choose(cls, repository: Path, name: str, version: int | None) -> Destination:
        """The destination for `version`, or for one above the highest.

        Raises:
            ExportError: the name or version cannot be served, or the version exists already.
        """
        check_name(name)
        return cls(repository=repository, name=name, version=choose_version(repository / name, version))

    @property
    def folder(self) -> Path:
        """The bundle's folder."""
        return self.repository / self.name / str(self.version)
