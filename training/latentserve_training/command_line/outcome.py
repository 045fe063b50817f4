"""Exit codes, and the one line on standard error when a command fails."""

from __future__ import annotations

from collections.abc import Callable

from jsonargparse import ArgumentError

from latentserve_training.command_line.output import OutputError, complain, written_out
from latentserve_training.errors import InterruptedRun, TrainingError
from latentserve_training.interruption import EXIT_INTERRUPTED, STOPPED, raise_on_signal, signals_ignored

EXIT_FAILURE = 1
EXIT_USAGE = 2
_NO_MEMORY = ("can't allocate memory", "out of memory")


def run(command: Callable[[], object], prog: str) -> int:
    """Run `command`; returns the exit code, after one line on standard error if something went wrong.

    SIGINT and SIGTERM end it at once, as a KeyboardInterrupt, wherever it does not ask for them itself.
    """
    with signals_ignored():  # from when it has ended until its exit code is known
        return written_out(lambda: _outcome(command, prog), prog)


def _outcome(command: Callable[[], object], prog: str) -> int:
    try:
        with raise_on_signal():
            command()
    except ArgumentError as error:
        return _end(f"{prog}: error: {error}", EXIT_USAGE)
    except TrainingError as error:
        return _end(f"{prog}: error: {error}", EXIT_FAILURE)
    except OutputError:
        raise
    except BrokenPipeError as error:  # where a library writes to standard output
        raise OutputError(error) from error
    except OSError as error:
        return _end(f"{prog}: error: {_said(error)}", EXIT_FAILURE)
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        return _end(f"{prog}: error: not enough memory: {str(error).splitlines()[0]}", EXIT_FAILURE)
    except InterruptedRun as stop:
        return _end(f"{prog}: {stop}; run the same command again to continue", EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        return _end(f"{prog}: {STOPPED}", EXIT_INTERRUPTED)
    return 0


def _said(error: OSError) -> str:
    """The file's name and the operating system's reason."""
    return ": ".join(str(part) for part in (error.filename, error.strerror or error) if part is not None)


def _lacks_memory(error: Exception) -> bool:
    """Whether memory ran out; torch's errors show it only in their wording."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)


def _end(message: str, code: int) -> int:
    complain(message)
    return code
