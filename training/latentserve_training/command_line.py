"""What every command of this package shares: its parser, its exit code and the one line where something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from latentserve_training.errors import InterruptedRun, TrainingError
from latentserve_training.interruption import EXIT_INTERRUPTED, STOPPED, stopping_at_once, uninterrupted
from latentserve_training.refusal import reword
from latentserve_training.standard_output import OutputError, complain, say, written_out
from latentserve_training.version import package_version

EXIT_FAILURE = 1
EXIT_USAGE = 2
_NO_MEMORY = ("can't allocate memory", "out of memory")


class Dataclass(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Request = TypeVar("Request", bound=Dataclass)


class _Parser(ArgumentParser):
    """jsonargparse's, whose refusals are in our words, and whose help ends in an error where it cannot be written."""

    bare = False

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ArgumentError(None, reword(message, self._actions, bare=self.bare)) from ex

    def print_help(self, file: Any = None) -> None:
        """Write the help to standard output, whatever `file` is.

        Raises:
            OutputError: standard output takes no more, which argparse would pass over.
        """
        say(self.format_help())


class _FileParser(_Parser):
    bare = True


def make_parser(prog: str, description: str | None = None, *, tells_version: bool = True) -> ArgumentParser:
    """A parser that takes whole option names alone, and raises ArgumentError, in our words, where a value is wrong.

    With `tells_version` its option --version prints the package's, and is not free for another use.
    """
    version = package_version() if tells_version else None
    return _Parser(prog=prog, description=description, version=version, exit_on_error=False, allow_abbrev=False)


def make_file_parser(prog: str | None = None, description: str | None = None) -> ArgumentParser:
    """As `make_parser`, for options that a YAML file has, too, or alone: they are named as there, without dashes."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    version = package_version() if prog else None
    return _FileParser(prog=prog, description=description, version=version, exit_on_error=False, allow_abbrev=False)


def fill(request: type[Request], values: Namespace | Mapping[str, Any]) -> Request:
    """The dataclass `request` with the parsed values of its fields' names.

    Raises:
        ArgumentError: it does not allow one of them.
    """
    try:
        return request(**{field.name: values[field.name] for field in fields(request)})
    except TrainingError as error:
        raise ArgumentError(None, str(error)) from error


def run(command: Callable[[], object], prog: str) -> int:
    """Run `command` and return the process's exit code, having said on standard error what went wrong.

    SIGINT and SIGTERM end it at once, as a KeyboardInterrupt, wherever it does not ask for them itself.
    """
    with uninterrupted():  # from when it has ended until its exit code is known
        return written_out(lambda: _outcome(command, prog), prog)


def _outcome(command: Callable[[], object], prog: str) -> int:
    try:
        with stopping_at_once():
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
    """What the operating system refused, and of which file."""
    return ": ".join(str(part) for part in (error.filename, error.strerror or error) if part is not None)


def _lacks_memory(error: Exception) -> bool:
    """Whether memory was asked for that there is not: of torch's errors, the words tell."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)


def _end(message: str, code: int) -> int:
    complain(message)
    return code
