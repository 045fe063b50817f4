"""`latentserve-train`: resolve the configuration, print it, save it, train."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve_training.entry import Command, enter

PROG = "latentserve-train"


def main(argv: Sequence[str] | None = None) -> int:
    """Train as `argv` says (the process's own arguments when absent); returns the exit code."""

    def load() -> Command:
        from latentserve_training import training

        return lambda: training.train(argv, PROG)

    return enter(PROG, argv, load, tuned=True)
