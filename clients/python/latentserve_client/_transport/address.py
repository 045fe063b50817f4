"""Where a server is: what may be written, and what stands between."""

from __future__ import annotations

import ipaddress
import os
import re

from latentserve_client.errors import RequestError

_HOST_AND_PORT = re.compile(r"(?P<host>[^\s/:@\[\]]+|\[[^\s/\[\]]+\]):(?P<port>[0-9]{1,5})", re.ASCII)
_URI = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):\S+", re.ASCII)
_MAX_PORT = 65535
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""In the order in which gRPC looks for one."""


def check_address(address: str) -> str:
    """`address`, where it is host:port, [v6]:port or one of gRPC's URIs, such as dns:///host:port.

    Raises:
        RequestError: it is none of these.
    """
    match = _HOST_AND_PORT.fullmatch(address)
    if not (1 <= int(match["port"]) <= _MAX_PORT if match else _URI.fullmatch(address)):
        raise RequestError(
            f"server {address!r}: write host:port, with a port of 1 to {_MAX_PORT}, or a URI of gRPC such as "
            "dns:///host:port"
        )
    return address


def is_on_this_machine(address: str) -> bool:
    """Whether the address names the loopback device or a socket in the file system, where no proxy is wanted."""
    if address.startswith("unix"):
        return True
    match = _HOST_AND_PORT.fullmatch(address.rpartition("/")[2])
    if match is None:
        return False
    host = match["host"].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_variable(address: str) -> str | None:
    """The variable of the environment by which gRPC would go to the address through a proxy, unless no_proxy has it."""
    if is_on_this_machine(address):
        return None
    return next((name for name in _PROXY_VARIABLES if os.environ.get(name)), None)
