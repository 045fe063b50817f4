"""The listener that answers gRPC health alone, in plain text, for probes that speak no TLS."""

from __future__ import annotations

from typing import Any

from grpc_health.v1 import health_pb2

from latentserve_server.configuration.config import ServerConfig
from latentserve_server.telemetry.metrics import Metrics
from latentserve_server.telemetry.open_files import MAX_HEALTH_CONNECTIONS
from latentserve_server.wire.admission import Admission, BytesUnderWay
from latentserve_server.wire.answering import Answering
from latentserve_server.wire.core import Completions
from latentserve_server.wire.exchange import Exchange
from latentserve_server.wire.field_count import FieldLimits
from latentserve_server.wire.listener import Listener, listener_options
from latentserve_server.wire.services import methods_of

_HEALTH: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]

_IDLE_MS = 30_000
"""A connection without a call ends after this time: those that stay would be in the way of probes."""


class HealthListener:
    """A port of its own where a servicer answers gRPC health."""

    def __init__(
        self,
        config: ServerConfig,
        completions: Completions,
        metrics: Metrics,
        under_way: BytesUnderWay,
        servicer: object,
    ) -> None:
        self._address = config.health_listen
        places: Admission[Exchange] = Admission(MAX_HEALTH_CONNECTIONS)
        answering = Answering(
            completions,
            metrics,
            places,
            under_way,
            FieldLimits(config.max_rows_per_request),
            max_header_bytes=config.max_header_bytes,
            unread_timeout=config.unread_timeout,
            access_log=False,
        )
        answering.add_methods(methods_of(_HEALTH, servicer, is_own=False))
        shared = config.workers > 1
        options = listener_options(
            config.health_listen, MAX_HEALTH_CONNECTIONS, config.max_header_bytes, is_shared=shared
        )
        self._listener = Listener(completions, [*options, ("grpc.max_connection_idle_ms", _IDLE_MS)], answering)
        self.start = self._listener.start
        """Answer calls from now on."""
        self.stop = self._listener.stop
        """Answer no more."""

    def bind(self) -> int:
        """Bind the address; returns the port.

        Raises:
            ConfigError: the address is taken, or none of this machine's.
        """
        return self._listener.bind("--health-listen", self._address)
