"""`latentserve-evaluate`: judge a run's model; writes a report and pictures into the run."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve_training.entry import Command, enter

PROG = "latentserve-evaluate"


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate as `argv` says (the process's own arguments when absent); returns the exit code."""

    def load() -> Command:
        from latentserve_training import judging

        return lambda: judging.judge(argv, PROG)

    return enter(PROG, argv, load, tuned=True)
