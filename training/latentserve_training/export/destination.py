"""The place of a bundle in a repository, and the options that choose it."""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser

from latentserve_training.export.bundle import check_name, check_version, choose_version


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


def add_publication_options(parser: ArgumentParser, *, default_name: str | None = None) -> None:
    """Add --repository, --name, --version and --license to a command.

    `default_name` says what the name is where --name is absent, which is None then; without it --name is required.
    """
    parser.add_argument(
        "--repository", type=_folder, required=True, help="Folder of models; the bundle goes into NAME/VERSION."
    )
    if default_name is None:
        parser.add_argument("--name", type=str, required=True, help="Name to serve under.")
    else:
        parser.add_argument("--name", type=str | None, help=f"Name to serve under (default: {default_name}).")
    parser.add_argument("--version", type=int | None, help="The bundle's, at least 1 (default: one above the highest).")
    parser.add_argument("--license", type=str, default="", help="SPDX identifier of the model's licence.")


def _folder(text: str | Path) -> Path:
    """A path; a URL is refused, since it would become a folder with an odd name."""
    if "://" in str(text):
        raise ArgumentTypeError(f"{text} is a URL; publish into a folder, and copy its bundles there")
    return Path(text)


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a bundle goes."""

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
