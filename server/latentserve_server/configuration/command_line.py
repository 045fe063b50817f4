"""The command line of the server's options; alone imports argparse."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Final, NoReturn

from latentserve_server.configuration.option import Option, Setting, suggest
from latentserve_server.errors import ConfigError

PROG: Final = "latentserve-server"


class _Parser(argparse.ArgumentParser):
    def describe(self, options: Mapping[str, Option]) -> None:
        """Explain these options where help is asked for."""
        self._described = options

    def format_help(self) -> str:
        for action in self._actions:
            if option := self._described.get(action.dest):
                default = "required" if option.is_required else f"default: {str(option.default).lower() or 'none'}"
                action.help = f"{option.description} ({default}; {option.variable})".replace("%", "%%")
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message.removeprefix("argument "))


def read_flags(
    arguments: Sequence[str] | None, options: Mapping[str, Option]
) -> tuple[dict[str, Setting], argparse.Namespace]:
    """What the flags say of the options, by their names, and what else they ask for: `config` and `print_config`.

    Raises:
        ConfigError: a flag is not understood. SystemExit: help or the version was asked for, and has been printed.
    """
    parser = _parser(options)
    asked, unknown = parser.parse_known_args(arguments)
    if unknown:
        flag = unknown[0].partition("=")[0]
        if not flag.startswith("-"):
            raise ConfigError(f"{flag}: belongs to no option")
        known = ("--config", "--print-config", *(option.flag for option in options.values()))
        raise ConfigError(f"{flag}: there is no such option{suggest(flag, known, prefix='--')}")
    texts = {option: getattr(asked, name) for name, option in options.items()}
    flags = {
        option.name: Setting(text, option.flag, f"{option.flag} {text}")
        for option, text in texts.items()
        if text is not None
    }
    return flags, asked


def _parser(options: Mapping[str, Option]) -> _Parser:
    parser = _Parser(
        prog=PROG,
        usage="%(prog)s --repository DIRECTORY [--config FILE] [--OPTION VALUE ...]",
        description="Serve model bundles over gRPC.",
        epilog="Flags rank above variables, variables above the file. `%(prog)s token --help` tells of tokens.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('latentserve-server')}")
    parser.add_argument("--config", action="append", metavar="FILE", help="YAML file of these options")
    parser.add_argument(
        "--print-config",
        "--print_config",
        action="store_true",
        help="print the configuration, with where each value comes from, and exit",
    )
    for option in options.values():
        parser.add_argument(option.flag, dest=option.name, metavar=_metavar(option))
    parser.describe(options)
    return parser


def _metavar(option: Option) -> str:
    number = {None: (), int: ("INTEGER",), float: ("NUMBER",)}[option.number]
    return "|".join((*number, *option.words)) or ("true|false" if option.kind is bool else "TEXT")
