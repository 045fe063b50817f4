"""An environment as on another machine: none of this project but what is installed from files, and no registry.

The third-party packages that are needed are those of the environment that runs the tests, by links. pip sees them as
installed, and holds their versions to what the project's packages ask for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

SEPARATE = {
    name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "LATENTSERVE_"))
}
SEPARATE["PIP_CONFIG_FILE"] = os.devnull


class FreshEnvironment:
    """A virtual environment in a folder, which is made."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        self.folder = folder
        self.bin = folder / "bin"
        (self._packages,) = folder.glob("lib/python*/site-packages")

    def provide(self, *requirements: str) -> None:
        """Link what third-party requirements ask for, and what that asks for in turn."""
        for name in _closure(requirements):
            found = distribution(name)
            for entry in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                link = self._packages / entry
                if not link.exists():
                    link.symlink_to(Path(str(found.locate_file(entry))).resolve())

    def pip(self, *arguments: object) -> str:
        """What pip prints, which acts upon this environment without a registry or a configuration."""
        return self._run(sys.executable, "-m", "pip", "--python", self.bin / "python", *arguments)

    def run(self, command: str, *arguments: object) -> str:
        """What a command that is installed here prints, away from the checkout."""
        return self._run(self.bin / command, *arguments)

    def _run(self, *command: object) -> str:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, cwd=self.folder, env=SEPARATE, check=False
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


def third_party(package: Distribution, *extras: str) -> list[str]:
    """The requirements of one of the project's packages that are none of the project's, with those of the extras."""
    requirements = map(Requirement, package.requires or ())
    return [str(each) for each in requirements if _applies(each, extras) and not each.name.startswith("latentserve")]


def _closure(requirements: tuple[str, ...]) -> set[str]:
    found: set[tuple[str, str]] = set()
    pending = [(each.name, extra) for each in map(Requirement, requirements) for extra in ("", *each.extras)]
    while pending:
        if (reached := pending.pop()) in found:
            continue
        found.add(reached)
        name, extra = reached
        for each in map(Requirement, distribution(name).requires or ()):
            if _applies(each, (extra,)):
                pending += [(each.name, more) for more in ("", *each.extras)]
    return {name for name, _ in found}


def _applies(requirement: Requirement, extras: tuple[str, ...]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))
