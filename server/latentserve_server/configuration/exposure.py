"""Addresses that others than this machine reach, and what guards them."""

from __future__ import annotations

import ipaddress
import logging
import socket

from latentserve_server.configuration.config import ServerConfig, parse_address

_logger = logging.getLogger(__name__)


def exposed_addresses(config: ServerConfig) -> list[str]:
    """The options, with their values, of the addresses beyond loopback that nothing guards; none with `insecure`."""
    if config.insecure or config.tls_cert:
        return []
    addresses = (
        ("--listen", config.listen),
        ("--admin-listen", config.admin_listen),
        ("--metrics-listen", config.metrics_listen),
    )
    return [f"{option} {address}" for option, address in addresses if address != "off" and _is_beyond(option, address)]


def warn_of_exposure(config: ServerConfig) -> None:
    """Say in one line of the log which addresses are open to others, and what to do."""
    if exposed := exposed_addresses(config):
        message = "open beyond this machine without TLS: %s; give --tls-cert and --tls-key, or set --insecure true"
        _logger.warning(f"{message} where a mesh, a proxy or a policy guards them", ", ".join(exposed))


def _is_beyond(option: str, address: str) -> bool:
    host, port = parse_address(option, address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:  # who binds it says what is wrong
        return False
    return not all(ipaddress.ip_address(place[4][0]).is_loopback for place in found)
