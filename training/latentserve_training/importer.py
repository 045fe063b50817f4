"""`latentserve-import`: ONNX files of another library as a bundle."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve_training.entry import Command, enter

PROG = "latentserve-import"


def main(argv: Sequence[str] | None = None) -> int:
    """Import as `argv` says (the process's own arguments when absent); returns the exit code."""

    def load() -> Command:
        from latentserve_training import importing
        from latentserve_training.standard_output import complain, say

        def warn(message: str) -> None:
            complain(f"{PROG}: warning: {message}")

        return lambda: say(f"{importing.import_model(importing.parse(argv, PROG), warn)}\n")

    return enter(PROG, argv, load)
