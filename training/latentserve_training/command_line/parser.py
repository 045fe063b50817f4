"""The argument parser of every command: jsonargparse with our error messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from latentserve_training.command_line.help_formatter import HelpFormatter
from latentserve_training.command_line.output import say
from latentserve_training.command_line.refusal import reword
from latentserve_training.command_line.version import package_version
from latentserve_training.errors import TrainingError


class Dataclass(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Request = TypeVar("Request", bound=Dataclass)

_SETTINGS: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False, "formatter_class": HelpFormatter}


class _Parser(ArgumentParser):
    """jsonargparse's parser with our error messages; help that cannot be written is an error."""

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
    """A parser that takes no abbreviated options, and raises ArgumentError with our message for a wrong value.

    With `tells_version` its option --version prints the package's version and cannot mean anything else.
    """
    version = package_version() if tells_version else None
    return _Parser(prog=prog, description=description, version=version, **_SETTINGS)


def make_file_parser(prog: str | None = None, description: str | None = None) -> ArgumentParser:
    """A parser for options that may stand in a YAML file: messages name them without dashes, as the file does."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    version = package_version() if prog else None
    return _FileParser(prog=prog, description=description, version=version, **_SETTINGS)


def fill(request: type[Request], values: Namespace | Mapping[str, Any]) -> Request:
    """An instance of the dataclass `request`, its fields filled from the parsed values.

    Raises:
        ArgumentError: it rejects one of them.
    """
    try:
        return request(**{field.name: values[field.name] for field in fields(request)})
    except TrainingError as error:
        raise ArgumentError(None, str(error)) from error
