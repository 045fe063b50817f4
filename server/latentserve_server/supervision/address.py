"""An address that is kept for the workers, where each of them listens by itself."""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import ExitStack
from typing import Any

from latentserve_server.configuration.config import parse_address
from latentserve_server.errors import ConfigError

_ANY_HOST, _ANY_HOST_OF_IPV4 = "::", "0.0.0.0"  # noqa: S104  # gRPC takes the second where there is no IPv6


class KeptAddress:
    """An address that was free, and that no other server can have until `close`. Nobody listens there by it.

    By SO_REUSEPORT any number of processes of one user may listen at an address. So that these are the workers alone, a
    socket listens there without it first, for a moment, which fails where anybody else has the address; before that one
    is closed, another is bound with it, and stays. Being bound without SO_REUSEADDR, that one is in the way of whoever
    tries the same later, while no worker listens, too.
    """

    def __init__(self, option: str, address: str) -> None:
        """Take the address that an option names; port 0 takes a free one.

        Raises:
            ConfigError: the address is taken, or none of this machine's; or this system does not share addresses.
        """
        if sys.platform != "linux":
            raise ConfigError("--workers: more than one worker needs Linux, which shares a port's connections out")
        self._sockets: list[socket.socket] = []
        host, port = parse_address(option, address)
        try:
            self.port = self._take(host, port)
        except OSError as error:
            self.close()
            raise ConfigError(f"{option} {address}: the address cannot be bound; is it in use?") from error
        self.address = f"{address.rpartition(':')[0]}:{self.port}"
        """With the port that was taken."""

    def close(self) -> None:
        """Let others have the address, once the workers have left it."""
        for kept in self._sockets:
            kept.close()

    def _take(self, host: str, port: int) -> int:
        """Take all that the host stands for and this machine has, at one port; returns the port."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        if host == _ANY_HOST:
            found += socket.getaddrinfo(_ANY_HOST_OF_IPV4, port, type=socket.SOCK_STREAM)
        problem = OSError("the host has no address")
        for family, _, _, _, place in dict.fromkeys(found):
            if host == _ANY_HOST and self._sockets:
                break
            try:
                kept = _keep(family, (place[0], port, *place[2:]))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise
                problem = error  # one of several, such as that of IPv6, may not be there; gRPC goes without, too
                continue
            self._sockets.append(kept)
            port = kept.getsockname()[1]
        if not self._sockets:
            raise problem
        return port


def _keep(family: int, place: tuple[Any, ...]) -> socket.socket:
    with _socket(family) as alone, ExitStack() as on_failure:
        alone.bind(place)
        alone.listen(0)
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept = on_failure.enter_context(_socket(family))
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((place[0], alone.getsockname()[1], *place[2:]))
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        on_failure.pop_all()
        return kept


def _socket(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier server are in nobody's way
    return made
