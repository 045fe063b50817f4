"""The configuration, each value from the first source that has one: flag, variable, file, default."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from latentserve_server.configuration.command_line import read_flags
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.configuration.option import Option, Setting, server_options
from latentserve_server.configuration.variables import read_variables
from latentserve_server.errors import ConfigError, OptionError


def parse_config(arguments: Sequence[str] | None, environment: Mapping[str, str]) -> ServerConfig:
    """The configuration, each value from the first that has one: a flag, a variable, a file, the default.

    The file is the one that --config names, or else LATENTSERVE_CONFIG; of several, the last that has the option.

    Raises:
        ConfigError: something is not understood, or a value is not allowed; says where it stands. SystemExit: help, the
        version or the configuration itself was asked for, and has been printed.
    """
    options = {option.name: option for option in server_options()}
    flags, asked = read_flags(arguments, options)
    variables, file = read_variables(environment, options)
    named = [Setting(path, "--config", f"--config {path}") for path in asked.config or ()]
    settings: dict[str, Setting] = {}
    for setting in named or ([] if file is None else [file]):
        from latentserve_server.configuration.config_file import read_config_file  # YAML, where there is a file

        settings |= read_config_file(setting, options)
    settings |= variables | flags
    config = _build(settings, options)
    if asked.print_config:
        from latentserve_server.configuration.config_file import write_config_file

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
