"""The four commands of this package, from process start to exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from latentserve_training.interruption import exit_on_signal

if TYPE_CHECKING:
    from latentserve_training.foreign.request import DescriptionRequest, ImportRequest
    from latentserve_training.foreign.saved.request import SavedRequest


def train(argv: Sequence[str] | None = None) -> int:
    """`latentserve-train`: resolve the configuration, print it, save it, train.

    `argv` are the arguments (the process's own when absent); returns the exit code, as all four do.
    """
    prog = "latentserve-train"

    def command() -> None:
        with _importing(prog):
            from latentserve_training.run.train import train
        train(argv, prog)

    return _enter(prog, argv, command, tuned=True)


def evaluate(argv: Sequence[str] | None = None) -> int:
    """`latentserve-evaluate`: judge a run's model; writes a report and pictures into the run."""
    prog = "latentserve-evaluate"

    def command() -> None:
        with _importing(prog):
            from latentserve_training.evaluation.config import parse
        request = parse(argv, prog)
        with _importing(prog):
            from latentserve_training.evaluation.evaluate import tell
        tell(request, _warnings_of(prog))

    return _enter(prog, argv, command, tuned=True)


def export(argv: Sequence[str] | None = None) -> int:
    """`latentserve-export`: a run's model as a bundle in a repository."""
    prog = "latentserve-export"

    def command() -> None:
        with _importing(prog):
            from latentserve_training.command_line.output import say
            from latentserve_training.export.request import parse
        request = parse(argv, prog)
        with _importing(prog):
            from latentserve_training.export.export import export
        say(f"{export(request, _warnings_of(prog))}\n")

    return _enter(prog, argv, command)


def import_model(argv: Sequence[str] | None = None) -> int:
    """`latentserve-import`: ONNX files of another library, or a model that it saved, as a bundle."""
    prog = "latentserve-import"

    def command() -> None:
        with _importing(prog):
            from latentserve_training.command_line.output import say
            from latentserve_training.foreign.request import parse
        if folder := _imported(parse(argv, prog), prog):
            say(f"{folder}\n")

    return _enter(prog, argv, command)


def _imported(request: ImportRequest | DescriptionRequest | SavedRequest, prog: str) -> Path | None:
    """The bundle's folder; None where a description was all that was wanted."""
    with _importing(prog):
        from latentserve_training.foreign.request import DescriptionRequest
        from latentserve_training.foreign.saved.request import SavedRequest
    if isinstance(request, SavedRequest):
        with _importing(prog):
            from latentserve_training.foreign.saved.import_saved import import_saved
        return import_saved(request, lambda known: _described(known, prog), _warnings_of(prog), _notes_of(prog))
    described = _described(request, prog) if isinstance(request, DescriptionRequest) else request
    if described is None:
        return None
    with _importing(prog):
        from latentserve_training.foreign.import_model import import_model
    return import_model(described, _warnings_of(prog), _notes_of(prog))


def _described(request: DescriptionRequest, prog: str) -> ImportRequest | None:
    with _importing(prog):
        from latentserve_training.command_line.output import explain, say
        from latentserve_training.foreign.guess.describe import describe_graphs
    return describe_graphs(request, say, explain, _questions_of(prog))


def _importing(prog: str) -> AbstractContextManager[None]:
    """While entered, a signal ends the process. Torch and onnx take seconds, so options are read first."""
    return exit_on_signal(prog, last=False)


def _warnings_of(prog: str) -> Callable[[str], None]:
    from latentserve_training.command_line.output import complain

    return lambda message: complain(f"{prog}: warning: {message}")


def _notes_of(prog: str) -> Callable[[str], None]:
    from latentserve_training.command_line.output import complain

    return lambda message: complain(f"{prog}: {message}")


def _questions_of(prog: str) -> Callable[[str], None]:
    from latentserve_training.command_line.output import complain

    return lambda message: complain(f"{prog}: question: {message}")


def _enter(prog: str, argv: Sequence[str] | None, command: Callable[[], None], *, tuned: bool = False) -> int:
    """Run `command`, which imports what it needs; returns the exit code.

    `argv` are its arguments, absent where they are the process's own, which is then the command's alone. Such a process
    is started again with malloc and OpenMP `tuned`, unless --untuned is among the arguments.
    """
    with exit_on_signal(prog, last=argv is None):
        # Imported only now, for a signal may come at once. Then torch takes seconds, which a restart would pay twice.
        from latentserve_training.command_line.output import written_out
        from latentserve_training.command_line.version import tell_version
        from latentserve_training.launch import restart_tuned

        words = sys.argv[1:] if argv is None else list(argv)
        if words == ["--version"]:  # before other words it may be the version of a bundle
            return written_out(lambda: tell_version(prog), prog)
        if tuned and argv is None and "--untuned" not in words:
            restart_tuned()
        from latentserve_training.command_line.outcome import run

        return run(command, prog)
