"""The version of this package, and --version."""

from __future__ import annotations

from latentserve_training.command_line.output import say


def package_version() -> str:
    """The version of latentserve-training, as it was installed."""
    from importlib.metadata import version  # which takes as long to import as all that a command begins with

    return version("latentserve-training")


def tell_version(prog: str) -> int:
    """Print it; returns the exit code.

    Raises:
        OutputError: standard output takes no more.
    """
    say(f"{prog} {package_version()}\n")
    return 0
