"""How every command of this package ends: with an exit code and, where something is wrong, one line."""

from __future__ import annotations

import sys
from collections.abc import Callable

from jsonargparse import ArgumentError

from latentserve_training.errors import InterruptedRun, TrainingError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def run(command: Callable[[], None], prog: str) -> int:
    """Run `command` and return the process's exit code, having said on standard error what went wrong."""
    try:
        command()
    except ArgumentError as error:
        return _end(f"{prog}: error: {error}", EXIT_USAGE)
    except TrainingError as error:
        return _end(f"{prog}: error: {error}", EXIT_FAILURE)
    except OSError as error:
        return _end(f"{prog}: error: {_said(error)}", EXIT_FAILURE)
    except InterruptedRun as stop:
        return _end(f"{prog}: {stop}; run the same command again to continue", EXIT_INTERRUPTED)
    return 0


def _said(error: OSError) -> str:
    """What the operating system refused, and of which file."""
    return ": ".join(str(part) for part in (error.filename, error.strerror or error) if part is not None)


def _end(message: str, code: int) -> int:
    sys.stderr.write(" ".join(message.split()) + "\n")
    return code
