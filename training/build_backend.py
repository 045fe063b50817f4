"""The build backend: hatchling, with the version that all packages share. All but latentserve-proto have it alike.

The packages have one version, which stands in proto/pyproject.toml. The others ask for a latentserve-proto that is
compatible with it, and jobs for a latentserve-server. These are on no registry, so who installs from a checkout is told
to take them from proto/ and server/ there.
Only the installer is told. A wheel or a source distribution that named a folder of the machine where it was built
could be installed nowhere else.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

from hatchling.build import (  # noqa: F401  # what a build backend offers beside the two functions below
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)
from hatchling.metadata.plugin.interface import MetadataHookInterface

_SIBLING = r"latentserve-(proto|server)(\[[^]]*\])?"


class SharedVersion(MetadataHookInterface):
    """Fills in the version, and the requirements that depend on it."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `version` and `dependencies`; source distributions bring both along and do not come here.

        Raises:
            FileNotFoundError: there is no proto/ beside this folder.
        """
        if (proto := _proto()) is None:
            raise FileNotFoundError("build latentserve in its checkout, where proto/ is, or from source distributions")
        version = tomllib.loads((proto / "pyproject.toml").read_text())["project"]["version"]
        metadata["version"] = version
        metadata["dependencies"] = [
            f"{entry}~={version}" if re.fullmatch(_SIBLING, entry) else entry for entry in self.config["dependencies"]
        ]


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    """What to install with this package: what its wheel asks for, with proto/ of the checkout where there is one."""
    return _prepare(build_wheel, metadata_directory, config_settings)


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    """The same for an editable installation."""
    return _prepare(build_editable, metadata_directory, config_settings)


def _prepare(build: Callable[..., str], metadata_directory: str, config_settings: dict[str, Any] | None) -> str:
    # PEP 517 wants the wheel's metadata here. pip and uv hold a wheel to the name and the version alone; nor does
    # hatchling, which lets hooks change requirements while it builds, promise more.
    with TemporaryDirectory() as folder, ZipFile(Path(folder, build(folder, config_settings))) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = wheel.read(name).decode()
    if (proto := _proto()) is not None:
        folder = proto.parent.as_uri()
        metadata = re.sub(f"(?m)^(Requires-Dist: {_SIBLING}).*$", rf"\1 @ {folder}/\2", metadata)
    target = Path(metadata_directory, name)
    target.parent.mkdir()
    target.write_text(metadata)
    return target.parent.name


def _proto() -> Path | None:
    """The folder of latentserve-proto in the checkout that this file lies in, if it lies in one."""
    folders = (parent / "proto" for parent in Path(__file__).resolve().parents[1:3])
    return next((folder for folder in folders if (folder / "latentserve" / "v1").is_dir()), None)
