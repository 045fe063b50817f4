"""`latentserve-export`: a run's model as a bundle in a repository."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve_training.entry import Command, enter

PROG = "latentserve-export"


def main(argv: Sequence[str] | None = None) -> int:
    """Export as `argv` says (the process's own arguments when absent); returns the exit code."""

    def load() -> Command:
        from latentserve_training import exporting
        from latentserve_training.standard_output import complain, say

        def warn(message: str) -> None:
            complain(f"{PROG}: warning: {message}")

        return lambda: say(f"{exporting.export(exporting.parse(argv, PROG), warn)}\n")

    return enter(PROG, argv, load)
