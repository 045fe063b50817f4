"""`latentserve-import`: ONNX files of another library as a bundle."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from latentserve_training.interruption import ending_at_once
from latentserve_training.version import tell_version

PROG = "latentserve-import"


def main(argv: Sequence[str] | None = None) -> int:
    """Import as `argv` says (the process's own arguments when absent); returns the exit code."""
    if tell_version(argv, PROG):
        return 0
    with ending_at_once(PROG):
        # Imported only now: torch and onnx take seconds to import, which a signal may end.
        from latentserve_training import command_line, importing

    def command() -> None:
        folder = importing.import_model(importing.parse(argv, PROG), _warn)
        sys.stdout.write(f"{folder}\n")

    return command_line.run(command, PROG)


def _warn(message: str) -> None:
    sys.stderr.write(f"{PROG}: warning: {message}\n")
