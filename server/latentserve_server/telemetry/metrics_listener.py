"""The HTTP listener that serves the metrics."""

from __future__ import annotations

import io
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

_logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1
"""Between looks for requests that last too long, and for the end."""


class MetricsListener:
    """Answers HTTP requests by an application, each on a thread of its own."""

    def __init__(
        self,
        host: str,
        port: int,
        application: WSGIApplication,
        *,
        max_requests: int,
        seconds: float,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """Bind the address, and answer from now on: by TLS as `tls` says for each connection, or in plain text.

        Connections beyond `max_requests` are closed at once, and every one is once it has lasted for `seconds`: a
        caller who sends or reads nothing, not even of the handshake, keeps no thread.

        Raises:
            OSError: the address cannot be bound.
        """
        self._server = _Server(host, port, max_requests, seconds, tls)
        self._server.set_app(application)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_LOOK_SECONDS,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that was bound."""
        return self._server.server_port

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # which are not waited for at the end

    def __init__(
        self, host: str, port: int, max_requests: int, seconds: float, tls: Callable[[], ssl.SSLContext] | None
    ) -> None:
        self._max_requests, self._seconds, self._tls = max_requests, seconds, tls
        self._began: dict[Any, float] = {}
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        super().__init__((host, port), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is not None:
            try:
                request.do_handshake()
            except ssl.SSLEOFError:  # nothing was said
                raise
            except ssl.SSLError as error:
                _logger.info("a scrape from %s was refused: %s", client_address[0], _reason(error))
                return
        super().finish_request(request, client_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._began) >= self._max_requests:
            self.shutdown_request(request)
            return
        if self._tls is not None:
            request = self._tls().wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._began.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        latest = time.monotonic() - self._seconds
        for request, began in list(self._began.items()):
            if began < latest:
                with suppress(OSError):  # it has ended by itself
                    # Which its thread finds. That of TLS would have the thread go on in plain text.
                    socket.socket.shutdown(request, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _logger.debug("a scrape failed", exc_info=True)


class _Handler(WSGIRequestHandler):
    def log_request(self, *_: Any) -> None:
        """Say nothing of an answered scrape."""

    def log_message(self, *words: Any) -> None:
        """Log what is wrong with a malformed request."""
        _logger.debug(*words)

    def get_stderr(self) -> Any:
        return io.StringIO()  # for a traceback where a caller has gone


def _reason(error: ssl.SSLError) -> str:
    """What is wrong with a handshake, in OpenSSL's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate: {error.verify_message}"
    return (error.reason or str(error)).replace("_", " ").lower()
