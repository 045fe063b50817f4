"""`latentserve-train`: resolve the configuration, print it, save it, train."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from latentserve_training.launch import restart_tuned

PROG = "latentserve-train"


def main(argv: Sequence[str] | None = None) -> int:
    """Train as `argv` says (the process's own arguments when absent); returns the exit code."""
    if argv is None and "--untuned" not in sys.argv:
        restart_tuned()
    from latentserve_training import command_line

    def command() -> None:
        # Imported only now: torch takes seconds to import, which a restart would pay for twice and a signal may end.
        from latentserve_training import training

        training.train(argv, PROG)

    return command_line.run(command, PROG)
