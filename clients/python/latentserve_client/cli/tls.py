"""The options of every command for TLS, and their variables."""

from __future__ import annotations

import argparse
import os

from latentserve_client.errors import RequestError
from latentserve_client.tls import Tls

_VARIABLE = "LATENTSERVE_CLIENT_TLS"
_FILES = {
    "ca": "PEM file of the CAs whose servers are trusted; default those that this machine trusts",
    "cert": "PEM file of the client's certificate, where the server asks for one",
    "key": "PEM file of its private key",
}
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def add_tls(parser: argparse.ArgumentParser) -> None:
    """--tls and what belongs to it, for read_tls."""
    group = parser.add_argument_group("TLS", f"Each option has a variable, such as {_VARIABLE}_CA of --tls-ca.")
    group.add_argument("--tls", action="store_true", help="speak TLS; any of the others says so, too")
    for name, text in _FILES.items():
        group.add_argument(f"--tls-{name}", metavar="FILE", help=text)
    group.add_argument(
        "--tls-server-name", metavar="NAME", help="name in the server's certificate; default the host of --server"
    )


def read_tls(args: argparse.Namespace) -> Tls | None:
    """What the options say, or else the variables; None for plain text.

    Raises:
        RequestError: it makes no sense.
    """
    given = {name: getattr(args, f"tls_{name}") or _variable(name) for name in (*_FILES, "server_name")}
    if not (args.tls or any(given.values()) or _is_on()):
        return None
    return Tls(
        ca=given["ca"] or None,
        cert=given["cert"] or None,
        key=given["key"] or None,
        server_name=given["server_name"],
    )


def _variable(name: str) -> str:
    return os.environ.get(f"{_VARIABLE}_{name.upper()}", "")


def _is_on() -> bool:
    text = os.environ.get(_VARIABLE) or "false"
    if text.lower() not in _TRUTHS:
        raise RequestError(f"{_VARIABLE}={text}: must be true or false")
    return _TRUTHS[text.lower()]
