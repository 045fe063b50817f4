"""The supervisor's admin port; apart, for it needs gRPC, without which a supervisor is small and starts sooner."""

from __future__ import annotations

from latentserve_server.access.authentication import authentication
from latentserve_server.api.admin_listener import AdminListener
from latentserve_server.api.forwarded_admin import ForwardedAdmin, Peer
from latentserve_server.certificates import Certificates
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.telemetry.log_writer import LogWriter
from latentserve_server.telemetry.metrics import Metrics
from latentserve_server.wire.admission import BytesUnderWay
from latentserve_server.wire.core import Completions


class Administration:
    """The admin port, and the changes that were made there."""

    def __init__(
        self, config: ServerConfig, peers: dict[int, Peer], log: LogWriter, certificates: Certificates | None
    ) -> None:
        """`peers` will hold the workers that take calls, by their numbers: `join` adds to them.

        Raises:
            ConfigError: the tokens, or the keys that tokens are verified with, cannot be read.
        """
        self._metrics = Metrics(log)
        under_way = BytesUnderWay(config.max_inflight_bytes)
        self._metrics.watch_bytes(lambda: under_way.total)
        self._completions = Completions()
        self._forwarded = forwarded = ForwardedAdmin(peers)
        self._authentication = authentication(config)
        if self._authentication is not None:
            self._metrics.watch_access_files(self._authentication.stale_files)
        self._listener = AdminListener(
            config,
            self._completions,
            self._metrics,
            under_way,
            forwarded,
            forwarded.is_model,
            certificates,
            self._authentication,
        )
        self.registry = self._metrics.registry
        """What is counted of the calls, and of this process."""
        self.bind = self._listener.bind
        self.join = forwarded.join

    def start(self) -> None:
        """Answer calls from now on."""
        if self._authentication is not None:
            self._authentication.start()
        self._listener.start()

    async def stop(self) -> None:
        """Answer no more, and give up the change under way."""
        if self._authentication is not None:
            self._authentication.stop()
        await self._forwarded.close()
        await self._listener.stop()
        self._completions.close()
