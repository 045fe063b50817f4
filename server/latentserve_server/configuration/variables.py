"""The environment variables of the server's options."""

from __future__ import annotations

import re
from collections.abc import Mapping

from latentserve_server.configuration.option import PREFIX, Option, Setting, suggest
from latentserve_server.errors import ConfigError

_CONFIG = f"{PREFIX}CONFIG"
_NEIGHBOURS = {f"{PREFIX}MNIST", f"{PREFIX}SERVER", f"{PREFIX}ADMIN_SERVER"}
"""Variables of the tests and of the client, which may run where a server does."""
_CLIENT = f"{PREFIX}CLIENT_"
"""What the names of the client's other variables begin with."""

_SERVICE = re.compile(rf"{PREFIX}(\w+_)?SERVICE_(HOST|PORT(_\w+)?)|{PREFIX}(\w+_)?PORT_[0-9]+_(TCP|UDP|SCTP)(_\w+)?")
_SERVICE_PORT = re.compile(rf"{PREFIX}(\w+_)?PORT")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")


def read_variables(
    environment: Mapping[str, str], options: Mapping[str, Option]
) -> tuple[dict[str, Setting], Setting | None]:
    """What the environment says of the options, by their names, and the YAML file that it names.

    Raises:
        ConfigError: a variable has the prefix and is no option of anything.
    """
    by_variable = {option.variable: option for option in options.values()}
    settings, file = {}, None
    for variable, text in environment.items():
        setting = Setting(text, variable, f"{variable}={text}")
        if variable in by_variable:
            settings[by_variable[variable].name] = setting
        elif variable == _CONFIG:
            file = setting
        elif variable.startswith(PREFIX) and not _is_foreign(variable, text):
            problem = f"there is no such option{suggest(variable, (*by_variable, _CONFIG), prefix=PREFIX)}"
            raise ConfigError(f"variable {variable}: {problem}")
    return settings, file


def _is_foreign(variable: str, text: str) -> bool:
    """Whether a variable is of this product's other parts, or of those by which Kubernetes tells pods of a Service.

    A Service called latentserve gives LATENTSERVE_SERVICE_HOST, LATENTSERVE_PORT=tcp://10.0.0.1:50051 and the like.
    """
    if variable in _NEIGHBOURS or variable.startswith(_CLIENT) or _SERVICE.fullmatch(variable):
        return True
    return bool(_SERVICE_PORT.fullmatch(variable) and _SERVICE_ADDRESS.fullmatch(text))
