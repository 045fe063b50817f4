"""Channels: the addresses they lead to, and how they are set up."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from typing import Any

from latentserve_client.errors import RequestError

MAX_MESSAGE_BYTES = 64 * 1024 * 1024

_SERVICE_CONFIG = {
    # Over one address this is that address; over a headless service it is every replica in turn.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "latentserve.v1.GenerationService"}, {"service": "latentserve.v1.ModelService"}],
            # Every call may be repeated: none changes the server, and the seed is fixed before the first attempt.
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 4,
                # A stopping server gives CANCELLED to calls that reached its socket and not yet itself. A call that is
                # cancelled on this side ends here and is never retried.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        },
        # A stream that breaks is resumed by the client, which knows what has arrived; gRPC would begin anew.
        {"name": [{"service": "latentserve.v1.GenerationService", "method": "StreamSamples"}]},
    ],
    # There is no "retryThrottling": it counts the failures of all calls of a channel, so that a server that is replaced
    # under many threads would end the retries of them all. What is retried is what no server has taken on.
}

_WINDOW_BYTES = 1 << 20
"""Bytes of one call's replies that the server sends ahead. gRPC would widen this window to 4 to 8 MiB on a quick
line, and a stream that is not read would be made as far ahead."""

CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # gRPC keeps a request for its retries up to this size; at its 256 KiB a batch of images would never be retried.
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES + 64 * 1024),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
    # Pings notice a dead peer while a call is in flight. The server permits one every 30 s.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The default of 1 s would let every retry above meet the same failed connection.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # With the default of 30 s a client whose servers are all replaced within that time would know none until its end.
    # Five seconds are what Kubernetes's name server lets its answers live.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)
"""The options of every channel that the client opens; give them to a channel of your own to keep its behaviour."""

BLOCKING_CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    *CHANNEL_OPTIONS,
    # Streams are read by the thread that wants them, as single calls are. gRPC would start a thread of its own; where
    # an interrupt (Ctrl-C) comes between the start of the call and that of the thread, close() never returns.
    ("SingleThreadedUnaryStream", 1),
)
"""The channel options of a blocking client: those of every channel and one more."""

_HOST_AND_PORT = re.compile(r"(?P<host>[^\s/:@\[\]]+|\[[^\s/\[\]]+\]):(?P<port>[0-9]{1,5})", re.ASCII)
_URI = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):\S+", re.ASCII)
_REFUSED_BY_IPV6 = re.compile(r"ipv6:(\[|%5B)::1(\]|%5D):[0-9]+: .*Connection refused")
_MAX_PORT = 65535
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Environment variables in the order in which gRPC looks for a proxy."""


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
    """The environment variable that would send calls to the address through a proxy, unless no_proxy lists it."""
    if is_on_this_machine(address):
        return None
    return next((name for name in _PROXY_VARIABLES if os.environ.get(name)), None)


def untold_address(address: str, details: str) -> str | None:
    """127.0.0.1 and the port, where `address` names localhost and the details of an error tell only of ::1's refusal.

    Where a name has several addresses gRPC tells of one of them, and hides that another one took the connection and
    ended it.
    """
    match = _HOST_AND_PORT.fullmatch(address.rpartition("/")[2])
    if match is None or match["host"] != "localhost" or _REFUSED_BY_IPV6.search(details) is None:
        return None
    return f"127.0.0.1:{match['port']}"


def for_address(address: str, options: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    """`options`, for a channel to the address: what is on this machine is never reached through a proxy."""
    # gRPC obeys http_proxy even for 127.0.0.1, unless no_proxy names it.
    return (*options, ("grpc.enable_http_proxy", 0)) if is_on_this_machine(address) else options
