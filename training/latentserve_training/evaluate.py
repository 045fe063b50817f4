"""`latentserve-evaluate`: judge a run's model; writes a report and pictures into the run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from latentserve_training.interruption import ending_at_once
from latentserve_training.launch import restart_tuned
from latentserve_training.version import tell_version

PROG = "latentserve-evaluate"


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate as `argv` says (the process's own arguments when absent); returns the exit code."""
    if tell_version(argv, PROG):
        return 0
    with ending_at_once(PROG):
        if argv is None and "--untuned" not in sys.argv:
            restart_tuned()
        # Imported only now: torch takes seconds to import, which a restart would pay for twice and a signal may end.
        from latentserve_training import command_line, judging

    return command_line.run(lambda: judging.judge(argv, PROG), PROG)
