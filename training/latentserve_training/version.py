"""The version of this package, told before the packages are imported that the commands need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version


def package_version() -> str:
    """The version of latentserve-training, as it was installed."""
    return version("latentserve-training")


def tell_version(argv: Sequence[str] | None, prog: str) -> bool:
    """Print it and return True where `argv`, the process's own arguments when absent, is --version alone.

    Before other words, --version may be the version of a bundle.
    """
    if list(sys.argv[1:] if argv is None else argv) != ["--version"]:
        return False
    sys.stdout.write(f"{prog} {package_version()}\n")
    return True
