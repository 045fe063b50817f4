"""gRPC listeners: their options and their port."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

from latentserve_server.certificates import Certificates
from latentserve_server.configuration.config import parse_address
from latentserve_server.errors import ConfigError
from latentserve_server.wire.admission import HEADER_ROOM
from latentserve_server.wire.answering import Answering
from latentserve_server.wire.core import Completions, CoreServer
from latentserve_server.wire.credentials import server_credentials

_logger = logging.getLogger(__name__)

_FINAL_GRACE_SECONDS = 0.2
"""For the last refusals to leave, once no call is under way."""

_CLOSE_SECONDS = 1.0
"""For gRPC to close its connections then. It closes none while a write to it is under way, and a caller that reads
nothing holds up a write for as long as it likes."""

_MAX_STREAMS = 1000
"""Calls under way on one connection; a client keeps what is beyond to itself until there is room."""

_MAX_PENDING_CALLS = 1 << 16
"""Calls that gRPC holds, in about 12 KiB each, until the event loop has taken them. It gives CANCELLED to all beyond,
and by default to some beyond 1,000."""

_MAX_PENDING_SECONDS = 300
"""How long gRPC holds a pending call; its default is 30."""

_HANDSHAKE_MS = 20_000
"""How long a new connection may take to say that it speaks HTTP/2."""

_PING_MS = 60_000
"""Idle time before a keepalive ping."""

_WINDOW_BYTES = 1 << 20
"""What a client may send ahead of the requests of one stream. By default gRPC widens that window to 4 to 8 MiB on a
quick line, and holds as much of every stream whose requests the server does not take yet."""

_OPTIONS = (
    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
    ("grpc.keepalive_time_ms", _PING_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),  # clients may ping every 30 s
    ("grpc.max_concurrent_streams", _MAX_STREAMS),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
    ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
    ("grpc.server_max_unrequested_time_in_server", _MAX_PENDING_SECONDS),
)


def listener_options(
    address: str, max_connections: int, max_header_bytes: int, *, is_shared: bool = False
) -> list[tuple[str, int]]:
    """The options of a listener, with so many connections over all that its address, host:port, stands for.

    Headers of up to `max_header_bytes` are let in for sure; that longer ones are refused is for who answers them. Where
    the address `is_shared`, other processes may listen there, too, and a new connection goes to one of them.
    """
    host, port = parse_address("--listen", address)
    try:
        places = len({found[4] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except OSError:  # who binds it says what is wrong
        places = 1
    return [
        *_OPTIONS,
        ("grpc.so_reuseport", int(is_shared)),  # 1 by default: a second server would share the port without a word
        ("grpc.max_allowed_incoming_connections", max(1, max_connections // places)),
        # Between the two, gRPC refuses by chance.
        ("grpc.max_metadata_size", HEADER_ROOM * max_header_bytes),
        ("grpc.absolute_max_metadata_size", HEADER_ROOM * max_header_bytes),
    ]


def renewal_options(age: float, grace: float) -> list[tuple[str, int]]:
    """Connections end after `age` seconds, each up to a tenth sooner or later, and their calls `grace` seconds later.

    0 is no age. A client opens another one, and looks its name up anew for that; new calls are lost by none.
    """
    if not age:
        return []
    milliseconds = max(1, round(1000 * age)), max(1, round(1000 * grace))
    return list(zip(("grpc.max_connection_age_ms", "grpc.max_connection_age_grace_ms"), milliseconds, strict=True))


class Listener:
    """A port, and what answers the calls that come there."""

    def __init__(
        self,
        completions: Completions,
        options: Sequence[tuple[str, int]],
        answering: Answering,
        certificates: Certificates | None = None,
    ) -> None:
        """With `certificates` it speaks TLS, and else plain text."""
        self._core = CoreServer(completions, options)
        self._answering = answering
        self._credentials = None if certificates is None else server_credentials(certificates)

    def bind(self, option: str, address: str) -> int:
        """Bind the address that an option names; returns the port.

        Raises:
            ConfigError: the address is taken, or none of this machine's.
        """
        if port := self._core.add_port(address, self._credentials):
            return port
        raise ConfigError(f"{option} {address}: the address cannot be bound; is it in use?")

    def start(self) -> None:
        """Answer calls from now on."""
        self._core.start(self._answering.answer)

    async def stop(self) -> None:
        """Answer no more, and wait for no connection that does not close."""
        stopping = asyncio.ensure_future(self._core.stop(_FINAL_GRACE_SECONDS))
        try:
            await asyncio.wait_for(asyncio.shield(stopping), _FINAL_GRACE_SECONDS + _CLOSE_SECONDS)
        except TimeoutError:
            _logger.warning("a connection is left behind to which a reply is still being written")
