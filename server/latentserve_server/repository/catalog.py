"""The catalog of a repository's directory: versions, digests and alias files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from latentserve.contract import NAME
from latentserve_server.bundle.bundle import MANIFEST, MAX_MANIFEST_BYTES
from latentserve_server.bundle.files import is_passing, open_file
from latentserve_server.errors import ConfigError
from latentserve_server.repository.aliases import AliasFile, read_aliases

_OF_FILE_SYSTEM = "lost+found"
_NAMES = "named with 1 to 128 letters, digits, '_', '.' and '-', the first neither '.' nor '-'"
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_VERSIONS = "a version is a folder whose name is a whole number from 1 to 10^18 - 1, without leading zeros"


@dataclass(slots=True)
class ModelDirectory:
    """What one model's directory holds."""

    digests: dict[int, str] = field(default_factory=dict)
    """For each version the SHA-256 of its manifest in hexadecimal; empty where there is none to read."""
    aliases: AliasFile | None = None
    """What the alias file says; None where it cannot be read, which is a problem."""


@dataclass(slots=True)
class Catalog:
    """The models of a repository's directory."""

    models: dict[str, ModelDirectory] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    """Models whose directory could not be read, so that nothing is known of them."""
    problems: list[str] = field(default_factory=list)
    """What is neither a model nor to be passed over in silence; one line each."""
    is_empty: bool = False
    """Whether there is no folder at all, as where a mount was lost."""
    is_partial: bool = False
    """Whether something could not be read that may be readable the next time."""


def read_catalog(root: Path, links_within: Path | None = None) -> Catalog:
    """Look through the directory. Names that begin with a dot are publications under way.

    Manifests may be links that end inside `links_within`.

    Raises:
        ConfigError: the directory cannot be read.
    """
    catalog = Catalog()
    try:
        directories = _directories(root, root, catalog.problems)
    except OSError as error:
        raise ConfigError(f"{root}: not a readable directory: {error.strerror}") from error
    catalog.is_empty = not directories
    for directory in directories:
        if not is_model_name(directory.name, catalog.problems):
            continue
        try:
            model = _read_model(root, directory, catalog.problems, links_within)
        except OSError as error:
            catalog.unreadable.add(directory.name)
            catalog.is_partial |= is_passing(error)
            catalog.problems.append(f"{shown(directory.name)}: cannot be read: {error.strerror}")
            continue
        if model.digests:
            catalog.models[directory.name] = model
    return catalog


def is_model_name(name: str, problems: list[str]) -> bool:
    """Whether a folder of the name is a model's; where it is not, `problems` gets a line."""
    is_name = NAME.fullmatch(name) is not None
    if not is_name:
        problems.append(f"ignored: {shown(name)}: a model's folder is {_NAMES}")
    return is_name


def is_version(name: str, version: str, problems: list[str], *, is_folder: bool = True) -> bool:
    """Whether <name>/<version> is a version. A folder that is none, or a file in such a place, gets a line."""
    is_number = _VERSION.fullmatch(version) is not None
    if is_number != is_folder:
        problems.append(f"ignored: {shown(f'{name}/{version}')}: {_VERSIONS}")
    return is_number and is_folder


def no_version(name: str) -> str:
    """The line on a model's folder that is empty."""
    return f"ignored: {name}: it holds no version, a folder such as {name}/1"


def is_visible(name: str) -> bool:
    """Whether a folder of the name is looked at. Names that begin with a dot are publications under way."""
    return not name.startswith(".") and name != _OF_FILE_SYSTEM


def shown(name: str) -> str:
    """A file's name as text that can be logged and sent, whatever its bytes are."""
    return name.encode("utf-8", "replace").decode()


def _read_model(root: Path, directory: Path, problems: list[str], links_within: Path | None) -> ModelDirectory:
    model, said = ModelDirectory(), len(problems)
    for version in _directories(directory, root, problems):
        if is_version(directory.name, version.name, problems):
            model.digests[int(version.name)] = _manifest_digest(version, links_within)
    if not model.digests and len(problems) == said and not _is_being_published(directory):
        problems.append(no_version(directory.name))
    if model.digests:
        try:
            model.aliases = read_aliases(directory)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and is_passing(error):
                raise
            problems.append(f"{directory.name}: {error}")
    return model


def _directories(parent: Path, root: Path, problems: list[str]) -> list[Path]:
    directories = []
    for path in sorted(parent.iterdir()):
        if not is_visible(path.name):
            continue
        if path.is_dir():
            directories.append(path)
        elif path.is_symlink() and not path.exists():
            problems.append(f"ignored: {shown(str(path.relative_to(root)))}: a link that leads nowhere")
        elif parent != root:
            is_version(parent.name, path.name, problems, is_folder=False)
    return directories


def _is_being_published(model: Path) -> bool:
    return any(path.name.startswith(".") and path.is_dir() for path in model.iterdir())


def _manifest_digest(version: Path, links_within: Path | None) -> str:
    try:
        with open_file(version / MANIFEST, links_within) as file:
            return hashlib.sha256(file.read(MAX_MANIFEST_BYTES + 1)).hexdigest()
    except OSError as error:
        if is_passing(error):
            raise
        return ""  # whoever loads the version says what is wrong with it
