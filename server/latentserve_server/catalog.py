"""What lies in a repository's directory: `<name>/<version>/manifest.json` and `<name>/aliases.json`. Opens no model."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from latentserve_server.aliases import AliasFile, read_aliases
from latentserve_server.bundle import MANIFEST, MAX_MANIFEST_BYTES
from latentserve_server.bundle_files import is_passing, open_file
from latentserve_server.errors import ConfigError

_OF_FILE_SYSTEM = "lost+found"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


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


def read_catalog(root: Path) -> Catalog:
    """Look through the directory. Names that begin with a dot are publications under way.

    Raises:
        ConfigError: the directory cannot be read.
    """
    catalog = Catalog()
    try:
        directories = _directories(root)
    except OSError as error:
        raise ConfigError(f"{root}: not a readable directory: {error.strerror}") from error
    catalog.is_empty = not directories
    for directory in directories:
        try:
            model = _read_model(root, directory, catalog.problems)
        except OSError as error:
            catalog.unreadable.add(directory.name)
            catalog.is_partial |= is_passing(error)
            catalog.problems.append(f"{shown(directory.name)}: cannot be read: {error.strerror}")
            continue
        if model.digests:
            catalog.models[directory.name] = model
    return catalog


def is_model_place(name: str, version: str) -> bool:
    """Whether <name>/<version> is where a version lies."""
    return bool(_NAME.fullmatch(name) and _VERSION.fullmatch(version))


def is_visible(name: str) -> bool:
    """Whether a folder of the name is looked at. Names that begin with a dot are publications under way."""
    return not name.startswith(".") and name != _OF_FILE_SYSTEM


def shown(name: str) -> str:
    """A file's name as text that can be logged and sent, whatever its bytes are."""
    return name.encode("utf-8", "replace").decode()


def _read_model(root: Path, directory: Path, problems: list[str]) -> ModelDirectory:
    model = ModelDirectory()
    for version in _directories(directory):
        if is_model_place(directory.name, version.name):
            model.digests[int(version.name)] = _manifest_digest(version)
        else:
            place = shown(str(version.relative_to(root)))
            problems.append(f"ignored: {place} is not <name>/<version>, a positive integer")
    if model.digests:
        try:
            model.aliases = read_aliases(directory)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and is_passing(error):
                raise
            problems.append(f"{directory.name}: {error}")
    return model


def _directories(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if is_visible(path.name) and path.is_dir())


def _manifest_digest(version: Path) -> str:
    try:
        with open_file(version / MANIFEST) as file:
            return hashlib.sha256(file.read(MAX_MANIFEST_BYTES + 1)).hexdigest()
    except OSError as error:
        if is_passing(error):
            raise
        return ""  # whoever loads the version says what is wrong with it
