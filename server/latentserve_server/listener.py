"""What every gRPC listener of the server has: its options, and a port of its own."""

from __future__ import annotations

import grpc

from latentserve_server.errors import ConfigError

_MAX_STREAMS = 1000
"""Calls under way on one connection; a client keeps what is beyond to itself until there is room."""

_MAX_PENDING_CALLS = 1 << 16
"""Calls that gRPC holds, in about 12 KiB each, until the event loop has taken them. It gives CANCELLED to all beyond,
and by default to some beyond 1,000."""

_MAX_PENDING_SECONDS = 300
"""For which it holds them; by default 30."""

LISTENER_OPTIONS = (
    ("grpc.so_reuseport", 0),  # else a second server would share the port without a word
    ("grpc.max_concurrent_streams", _MAX_STREAMS),
    ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
    ("grpc.server_max_unrequested_time_in_server", _MAX_PENDING_SECONDS),
)


def add_port(server: grpc.aio.Server, option: str, address: str) -> int:
    """Bind the address that an option names; returns the port.

    Raises:
        ConfigError: the address is taken, or none of this machine's.
    """
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(f"{option} {address}: the address cannot be bound; is it in use?") from error
