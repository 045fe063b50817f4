"""An environment that has this checkout's packages installed, beside the libraries of the interpreter that makes it.

A rented machine has Python and some libraries, and nothing to install packages with. The server asks for its own
version, and tests run its command, so the sources alone are not enough.
"""

from __future__ import annotations

import stat
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDERS = ("proto", "server", "clients/python", "training")
COMMAND = "latentserve-server"


def is_installed() -> bool:
    """Whether this interpreter has the server and its command."""
    try:
        version(COMMAND)
    except PackageNotFoundError:
        return False
    return Path(sys.executable).with_name(COMMAND).exists()


@contextmanager
def environment() -> Iterator[Path]:
    """The interpreter of such an environment, which is gone after the block."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, symlinks=True)
        python = Path(folder, "bin", "python")
        (site,) = Path(folder, "lib").glob("python*/site-packages")
        (site / "checkout.pth").write_text("\n".join(sys.path[1:]))  # all but the place where this was started
        release = _project("proto")["version"]
        for project in map(_project, FOLDERS):
            _describe(site, project["name"], release)
            for command, function in project.get("scripts", {}).items():
                _write_command(python.with_name(command), python, function)
        yield python


def _project(folder: str) -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"])


def _describe(site: Path, name: str, release: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{release}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n")


def _write_command(path: Path, python: Path, function: str) -> None:
    module, _, name = function.partition(":")
    path.write_text(f"#!{python}\nimport sys\n\nfrom {module} import {name}\n\nsys.exit({name}())\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
