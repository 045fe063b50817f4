"""How every command of this package begins: told its version, tuned, loaded, and stopped by a signal meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from latentserve_training.interruption import ending_at_once

Command = Callable[[], object]


def enter(prog: str, argv: Sequence[str] | None, load: Callable[[], Command], *, tuned: bool = False) -> int:
    """Run the command that `load` imports; returns the exit code.

    `argv` are its arguments, absent where they are the process's own, which is then the command's alone. Such a process
    is started again with malloc and OpenMP `tuned`, unless --untuned is among the arguments.
    """
    with ending_at_once(prog, last=argv is None):
        # Imported only now, for a signal may come at once. Then torch takes seconds, which a restart would pay twice.
        from latentserve_training.launch import restart_tuned
        from latentserve_training.standard_output import written_out
        from latentserve_training.version import tell_version

        words = sys.argv[1:] if argv is None else list(argv)
        if words == ["--version"]:  # before other words it may be the version of a bundle
            return written_out(lambda: tell_version(prog), prog)
        if tuned and argv is None and "--untuned" not in words:
            restart_tuned()
        from latentserve_training import command_line

        return command_line.run(load(), prog)
