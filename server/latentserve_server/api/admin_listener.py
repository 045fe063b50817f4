"""The listener of ModelAdminService."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from latentserve.v1 import models_pb2
from latentserve_server.access.authentication import Authentication
from latentserve_server.api.requests import model_of
from latentserve_server.certificates import Certificates
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.telemetry.metrics import Metrics
from latentserve_server.telemetry.open_files import MAX_ADMIN_CONNECTIONS
from latentserve_server.wire.admission import Admission, BytesUnderWay
from latentserve_server.wire.answering import Answering
from latentserve_server.wire.core import Completions
from latentserve_server.wire.exchange import Exchange
from latentserve_server.wire.field_count import FieldLimits
from latentserve_server.wire.listener import Listener, listener_options
from latentserve_server.wire.reflection import add_reflection
from latentserve_server.wire.services import methods_of

_ADMIN = models_pb2.DESCRIPTOR.services_by_name["ModelAdminService"]

_MAX_ADMIN_CALLS = 100
"""Calls of ModelAdminService under way; they have a bound of their own, so that a busy server can be administered."""


class AdminListener:
    """A port of its own where a servicer answers ModelAdminService."""

    def __init__(
        self,
        config: ServerConfig,
        completions: Completions,
        metrics: Metrics,
        under_way: BytesUnderWay,
        servicer: object,
        is_model: Callable[[str], bool],
        certificates: Certificates | None = None,
        authentication: Authentication | None = None,
    ) -> None:
        """`is_model` tells whether a name is one of the repository's, and `authentication` who calls.

        With `certificates` it speaks TLS.
        """
        self._address = config.admin_listen
        self._admission: Admission[Exchange] = Admission(_MAX_ADMIN_CALLS)
        answering = Answering(
            completions,
            metrics,
            self._admission,
            under_way,
            FieldLimits(config.max_rows_per_request),
            max_header_bytes=config.max_header_bytes,
            unread_timeout=config.unread_timeout,
            access_log=config.access_log,
            authentication=authentication,
        )
        answering.add_methods(methods_of(_ADMIN, servicer, model_of=partial(model_of, is_model=is_model)))
        if config.reflection:
            add_reflection((_ADMIN.full_name,), answering)
        options = listener_options(config.admin_listen, MAX_ADMIN_CONNECTIONS, config.max_header_bytes)
        self._listener = Listener(completions, options, answering, certificates)

    def bind(self) -> int:
        """Bind the address; returns the port.

        Raises:
            ConfigError: the address is taken, or none of this machine's.
        """
        return self._listener.bind("--admin-listen", self._address)

    def start(self) -> None:
        """Answer calls from now on."""
        self._listener.start()

    async def stop(self) -> None:
        """Answer no more, and cut off the calls under way."""
        await self._admission.drain(0)
        await self._listener.stop()
