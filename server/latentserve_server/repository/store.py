"""Model stores: their catalogs and alias files, and the store that is a directory.

A store lists versions, by the digests of their manifests, and aliases; bundles are fetched where they are wanted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from latentserve.contract import MAX_VERSION, NAME
from latentserve_server.bundle.bundle import open_file
from latentserve_server.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES
from latentserve_server.errors import ChangeRefused, ConfigError, is_passing

_logger = logging.getLogger(__name__)

ALIASES = "aliases.json"
"""The alias file of a model, beside its versions."""
MAX_ALIASES_BYTES = 1 << 20

_OF_FILE_SYSTEM = "lost+found"
_NAMES = "named with 1 to 128 letters, digits, '_', '.' and '-', the first neither '.' nor '-'"
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_VERSIONS = "a version is a folder whose name is a whole number from 1 to 10^18 - 1, without leading zeros"


@dataclass(frozen=True, slots=True)
class AliasFile:
    """What a model's alias file says."""

    versions: Mapping[str, int] = field(default_factory=dict)
    """The version that each alias is to name."""
    digest: str = ""
    """SHA-256 of the file in hexadecimal; empty where there is none."""


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


class ModelStore(Protocol):
    """The models of a repository, to be looked through and fetched. Every method blocks: call it on a thread."""

    @property
    def place(self) -> str:
        """The directory or the URL, as it was configured."""
        ...

    def open(self) -> None:
        """Make the store ready for use.

        Raises:
            ConfigError: it cannot be used as it is configured.
        """
        ...

    def close(self) -> None:
        """Free what `open` took, and end a `fetch` under way on another thread at its next part. Harmless twice."""
        ...

    def catalog(self) -> Catalog:
        """What there is now.

        Raises:
            ConfigError: the store is not there, or cannot be read.
        """
        ...

    def fetch(self, name: str, version: int, digest: str) -> Path:
        """A local directory with the bundle; `digest` is that of its manifest, as the catalog has it.

        Raises:
            BundleError: the bundle is damaged, or larger than is allowed. StoreFailure: it cannot be had now.
        """
        ...

    def read_aliases(self, name: str) -> AliasFile:
        """The alias file of a model; an empty one where there is no file.

        Raises:
            ValueError: the file is not an object of versions by alias. OSError: it cannot be read.
        """
        ...

    def write_aliases(self, name: str, versions: Mapping[str, int]) -> AliasFile:
        """Replace the alias file of a model, so that a reader sees the old one or the new one.

        Raises:
            OSError: it cannot be written.
        """
        ...


class LocalStore:
    """The models of a directory, as a `ModelStore`."""

    def __init__(self, root: Path, links_within: Path | None = None) -> None:
        """Manifests may be links that end inside `links_within`."""
        self._root = root
        self._links_within = links_within

    @property
    def place(self) -> str:
        """The directory."""
        return str(self._root)

    def open(self) -> None:
        """Nothing is to be done."""

    def close(self) -> None:
        """Nothing is to be done."""

    def catalog(self) -> Catalog:
        """As `read_catalog`."""
        return read_catalog(self._root, self._links_within)

    def fetch(self, name: str, version: int, digest: str) -> Path:
        """The bundle's own directory."""
        return self._root / name / str(version)

    def read_aliases(self, name: str) -> AliasFile:
        """As the function `read_aliases`."""
        return read_aliases(self._root / name)

    def write_aliases(self, name: str, versions: Mapping[str, int]) -> AliasFile:
        """As the function `write_aliases`."""
        return write_aliases(self._root / name, versions)


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


def read_aliases(directory: Path) -> AliasFile:
    """The alias file of the model in `directory`; an empty one where there is no file.

    Raises:
        ValueError: the file is not an object of versions by alias. OSError: it cannot be read.
    """
    path = directory / ALIASES
    if not path.is_file():
        return AliasFile()
    with path.open("rb") as file:
        return parse_aliases(file.read(MAX_ALIASES_BYTES + 1))


def parse_aliases(data: bytes) -> AliasFile:
    """What the bytes of an alias file say.

    Raises:
        ValueError: they are not an object of versions by alias.
    """
    if len(data) > MAX_ALIASES_BYTES:
        raise ValueError(f"{ALIASES}: longer than {MAX_ALIASES_BYTES} bytes")
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{ALIASES}: not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ValueError(f"{ALIASES}: not an object of versions by alias")
    for alias, version in parsed.items():
        if not NAME.fullmatch(alias):
            raise ValueError(f"{ALIASES}: {alias!r} is not an alias: letters, digits, '_', '.' and '-'")
        if type(version) is not int or not 1 <= version <= MAX_VERSION:
            raise ValueError(f"{ALIASES}: {alias!r} does not name a version, a positive integer")
    return AliasFile(parsed, hashlib.sha256(data).hexdigest())


def alias_bytes(versions: Mapping[str, int]) -> bytes:
    """An alias file of these versions."""
    return (json.dumps(dict(versions), indent=2, sort_keys=True) + "\n").encode()


def write_aliases(directory: Path, versions: Mapping[str, int]) -> AliasFile:
    """Replace the alias file of the model in `directory`, so that a reader sees the old one or the new one.

    Raises:
        OSError: it cannot be written.
    """
    data = alias_bytes(versions)
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=f".{ALIASES}-")
    staged = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        staged.replace(directory / ALIASES)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    return AliasFile(dict(versions), hashlib.sha256(data).hexdigest())


def store_alias(
    store: ModelStore, name: str, known: AliasFile, alias: str, version: int | None
) -> tuple[bool, AliasFile]:
    """Change one alias in a model's file and in what is known of it; returns whether the file could be written.

    Raises:
        ChangeRefused: the file is damaged, cannot be read, or would be too long to be read again.
    """
    try:
        found = store.read_aliases(name)
    except (ValueError, OSError) as error:
        raise ChangeRefused(f"{name}: {error}") from error
    current = known if found.digest in ("", known.digest) else found  # a file that is missing may come back
    others = {other: target for other, target in current.versions.items() if other != alias}
    wanted = others | ({} if version is None else {alias: version})
    if len(alias_bytes(wanted)) > MAX_ALIASES_BYTES:
        raise ChangeRefused(f"{name}: {ALIASES} would be longer than {MAX_ALIASES_BYTES} bytes; delete some")
    try:
        return True, store.write_aliases(name, wanted)
    except OSError as error:
        _logger.warning("alias %s of %s is not stored: %s", alias, name, error)
        return False, AliasFile(wanted, current.digest)
