"""The configuration from flags, variables, a file and defaults; alone imports argparse."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final, NoReturn, get_args

from latentserve_server.configuration.config import ServerConfig
from latentserve_server.configuration.config_file import read_config_file, write_config_file
from latentserve_server.configuration.option import Option, Setting, server_options
from latentserve_server.configuration.suggestion import suggest
from latentserve_server.configuration.variables import read_variables
from latentserve_server.errors import ConfigError, OptionError

PROG: Final = "latentserve-server"


def parse_config(arguments: Sequence[str] | None, environment: Mapping[str, str]) -> ServerConfig:
    """The configuration, each value from the first that has one: a flag, a variable, a file, the default.

    The file is the one that --config names, or else LATENTSERVE_CONFIG; of several, the last that has the option.

    Raises:
        ConfigError: something is not understood, or a value is not allowed; says where it stands. SystemExit: help, the
        version or the configuration itself was asked for, and has been printed.
    """
    options = {option.name: option for option in server_options()}
    flags, asked = _read_flags(arguments, options)
    variables, file = read_variables(environment, options)
    named = [Setting(path, "--config", f"--config {path}") for path in asked.config or ()]
    settings: dict[str, Setting] = {}
    for setting in named or ([] if file is None else [file]):
        settings |= read_config_file(setting, options)
    settings |= variables | flags
    config = _build(settings, options)
    if asked.print_config:
        origins = {name: settings[name].origin if name in settings else "default" for name in options}
        sys.stdout.write(write_config_file(dataclasses.asdict(config), origins))
        raise SystemExit(0)
    return config


def _build(settings: Mapping[str, Setting], options: Mapping[str, Option]) -> ServerConfig:
    values: dict[str, Any] = {}
    for name, option in options.items():
        if name in settings:
            try:
                values[name] = option.read(settings[name].text)
            except ValueError as error:
                raise ConfigError(f"{settings[name].quotation}: {error}") from error
        elif option.is_required:
            raise ConfigError(f"{option.flag} is missing: {option.description}")
    try:
        return ServerConfig(**values)
    except OptionError as error:
        option = next(option for option in options.values() if option.flag == error.flag)
        problem = option.explain(error.problem)
        if option.name not in settings:
            raise ConfigError(f"{option.flag} {option.default}, the default: {problem}") from error
        raise ConfigError(f"{settings[option.name].quotation}: {problem}") from error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message.removeprefix("argument "))


def _read_flags(
    arguments: Sequence[str] | None, options: Mapping[str, Option]
) -> tuple[dict[str, Setting], argparse.Namespace]:
    """What the flags say of the options, by their names, and the rest of what they ask for."""
    parser = _parser(options)
    asked, unknown = parser.parse_known_args(arguments)
    if unknown:
        flag = unknown[0].partition("=")[0]
        if not flag.startswith("-"):
            raise ConfigError(f"{flag}: belongs to no option")
        known = ("--config", "--print-config", *(option.flag for option in options.values()))
        raise ConfigError(f"{flag}: there is no such option{suggest(flag, known)}")
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
        epilog="Flags rank above variables, variables above the file.",
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
        default = "required" if option.is_required else f"default: {str(option.default).lower() or 'none'}"
        text = f"{option.description} ({default}; {option.variable})".replace("%", "%%")
        parser.add_argument(option.flag, dest=option.name, metavar=_metavar(option), help=text)
    return parser


def _metavar(option: Option) -> str:
    if choices := get_args(option.kind):
        return "|".join(choices)
    return {bool: "true|false", int: "INTEGER", float: "NUMBER"}.get(option.kind, "TEXT")
