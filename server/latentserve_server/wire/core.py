"""gRPC's C core on an event loop: calls arrive, and their operations end, in bursts.

The one module that knows grpcio's binding of the core, which is private to grpcio; its version is pinned for that.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any, TypeAlias

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs leave it out

_logger = logging.getLogger(__name__)

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

_BURST = 256
"""Events that are handled before other work of the loop has its turn."""
_PATIENCE_SECONDS = 2e-3
"""How long the loop itself waits for an event."""
_CALLS_ASKED_FOR = 128
"""Calls that the core may hand over before it is asked again."""
_NO_DEADLINE = 1e11
"""Deadlines beyond this, in seconds since 1970, are none."""

_NAMES = (b"peer_dns", b"peer_uri", b"x509_common_name")
"""Of a peer's certificate, as the core calls them."""

_NO_HEADERS = cygrpc.SendInitialMetadataOperation((), 0)
_RECEIVE = cygrpc.ReceiveMessageOperation
_SEND = cygrpc.SendMessageOperation
_STATUS = cygrpc.SendStatusFromServerOperation
_CLOSE = cygrpc.ReceiveCloseOnServerOperation


class Completions:
    """What the core has done, told on the running event loop by calling the tags of its events.

    While there is something the loop takes it, in bursts. Where there is nothing for a moment and it is not busy, the
    loop itself waits for it, and for nothing else, a little. After a longer pause a thread waits for the first event,
    so that the loop may sleep, and wakes it; that way takes much longer.
    """

    def __init__(self, is_busy: Callable[[], bool] | None = None) -> None:
        """`is_busy` tells whether calls are under way whose work the loop is not to hold up; None: always."""
        self.queue = cygrpc.CompletionQueue()
        self._is_busy = is_busy or (lambda: True)
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._pause = threading.Semaphore(1)
        self._is_calm = False
        self._begun: list[tuple[Any, Sequence[Any], Callable[[Any], None]]] = []
        self._listeners = 0
        self._closing = False
        threading.Thread(target=self._wait, name="completions", daemon=True).start()

    def listener_opened(self) -> None:
        """Stay until one more listener has closed."""
        self._listeners += 1

    def listener_closed(self) -> None:
        """One listener less; no operation of its calls is under way any more."""
        self._listeners -= 1
        self._end()

    def close(self) -> None:
        """End as soon as every listener has closed."""
        self._closing = True
        self._end()

    def _end(self) -> None:
        if self._closing and not self._listeners:
            self.queue.shutdown()
            self._pause.release()

    def _wait(self) -> None:
        while self._pause.acquire():
            event = self.queue.poll()
            if event.tag is None:
                return
            try:
                self._loop.call_soon_threadsafe(self._begin, event)
            except RuntimeError:  # the loop is closed; what is left behind ends here, since the queue waits for it
                self._pause.release()
                if isinstance(event, cygrpc.ServerShutdownEvent):
                    self.listener_closed()

    def _begin(self, event: Any) -> None:
        self._loop.call_soon(self._burst)  # whatever becomes of the first event
        event.tag(event)

    def begin(self, call: Any, operations: Sequence[Any], tag: Callable[[Any], None]) -> None:
        """Begin operations of a call, together with those of other calls that come meanwhile."""
        if not self._begun:
            self._loop.call_soon(self._flush, context=self._context)  # of no call
        self._begun.append((call, operations, tag))
        self._is_calm = False

    def _flush(self) -> None:
        begun, self._begun = self._begun, []
        for call, operations, tag in begun:
            try:
                if error := call.start_server_batch(operations, tag):
                    raise ValueError(f"error {error}")
            except Exception:  # the others are not to suffer for it
                _logger.exception("gRPC's core does not take what a call sends")
                call.cancel()

    def _burst(self) -> None:
        """Handle what there is. Twice nothing, with all the loop's work in between, is a pause."""
        poll, events = self.queue.poll, list[Any]()
        patience = time.time() + _PATIENCE_SECONDS if self._is_calm and not self._is_busy() else 0.0
        while len(events) < _BURST and (event := poll(deadline=patience)).tag is not None:
            events.append(event)
            patience = 0.0
        if events or not self._is_calm:
            self._is_calm = not events
            self._loop.call_soon(self._burst)
        else:
            self._is_calm = False
            self._pause.release()
        for event in events:
            try:
                event.tag(event)
            except Exception:
                _logger.exception("an event of a call failed")
        self._flush()


class CoreServer:
    """A server of the core: its ports, and the calls that come in."""

    def __init__(self, completions: Completions, options: Sequence[tuple[str, int]]) -> None:
        self._completions = completions
        self._queue = completions.queue
        self._server = cygrpc.Server(tuple(options), False)
        self._server.register_completion_queue(self._queue)
        self._accept: Callable[[Any], None] | None = None
        self._closed: asyncio.Future[None] | None = None

    def add_port(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Bind an address, host:port; returns the port, or 0 where it cannot be had. Plain text without credentials."""
        if credentials is None:
            return int(self._server.add_http2_port(address.encode()))
        return int(self._server.add_http2_port(address.encode(), credentials._credentials))  # type: ignore[attr-defined]

    def start(self, accept: Callable[[Any], None]) -> None:
        """Tell `accept` of the arrival of every call from now on, of which it makes a `Call`."""
        self._accept = accept
        self._server.start()
        self._completions.listener_opened()
        for _ in range(_CALLS_ASKED_FOR):
            self._ask()

    async def stop(self, grace: float) -> None:
        """Take no more calls, and return when all have ended; cancel those that last longer than `grace` seconds.

        Harmless where it has not started.
        """
        if self._accept is None:
            return
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
            self._server.shutdown(self._queue, self._shut_down)
        if not (await asyncio.wait((self._closed,), timeout=grace))[0]:
            self._server.cancel_all_calls()
        await asyncio.shield(self._closed)

    def _shut_down(self, event: Any) -> None:
        self._server.destroy()
        self._completions.listener_closed()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def _ask(self) -> None:
        self._server.request_call(self._queue, self._queue, self._arrived)

    def _arrived(self, event: Any) -> None:
        if event.success and self._accept is not None:
            if self._closed is None:
                self._ask()
            self._accept(event)


class Call:
    """One call: what it says of itself, and the operations on it. A subclass hears of what becomes of them."""

    __slots__ = (
        "_call",
        "_completions",
        "_headers_sent",
        "_is_watched",
        "_seconds",
        "closed",
        "metadata",
        "path",
    )

    def __init__(self, arrival: Any, completions: Completions) -> None:
        details = arrival.call_details
        self._completions = completions
        self._call = arrival.call
        self._headers_sent = False
        self._is_watched = False
        self._seconds: float = details.deadline
        self.path: str = details.method.decode("ascii", "replace")
        """Of its method, /package.Service/Method."""
        self.metadata: Metadata = arrival.invocation_metadata
        self.closed = False
        """Whether it has ended: its status has left, or its caller, or its deadline has passed."""

    def received(self, message: bytes | None) -> None:
        """What `receive` has asked for is here, on the event loop; None where there is no message."""

    def ended(self) -> None:
        """It is closed, on the event loop."""

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None where there is none."""
        return None if self._seconds > _NO_DEADLINE else max(0.0, self._seconds - time.time())

    def peer_names(self) -> tuple[str, ...]:
        """The names in its caller's certificate, which was verified; none without TLS, or where none is asked for.

        DNS names come first, then URIs, then the common name.
        """
        said = cygrpc.auth_context(self._call)
        return tuple(dict.fromkeys(name.decode(errors="replace") for kind in _NAMES for name in said.get(kind, ())))

    def peer_host(self) -> str:
        """Where its connection comes from, as the core writes it, without the port."""
        peer: str = self._call.peer().decode("ascii", "replace")
        return peer.rpartition(":")[0] if peer.startswith("ipv") else peer

    def watch(self) -> None:
        """Learn of a caller who goes as soon as that happens, and not only when the call is ended. Harmless twice."""
        if not self._is_watched:
            self._is_watched = True
            self._completions.begin(self._call, (_CLOSE(0),), self._note_closed)

    def receive(self) -> None:
        """Ask for the next message."""
        self._completions.begin(self._call, (_RECEIVE(0),), self._note_message)

    def send(self, message: bytes, sent: Callable[[], None]) -> None:
        """Send a message of a stream; `sent` is called when the core has room for another one."""
        operations = (*self._headers(), _SEND(message, 0))
        self._completions.begin(self._call, operations, lambda event: sent())

    def end(self, code: int, details: str, trailers: Metadata, message: bytes | None = None) -> None:
        """End the call with a status, after a last message."""
        operations = [*self._headers(), _STATUS(trailers, code, details.encode(errors="replace"), 0)]
        if message is not None:
            operations.append(_SEND(message, 0))
        if self._is_watched:
            self._completions.begin(self._call, operations, _ignore)
        else:
            self._is_watched = True
            operations.append(_CLOSE(0))
            self._completions.begin(self._call, operations, self._note_closed)

    def _note_message(self, event: Any) -> None:
        self.received(event.batch_operations[0].message())

    def _note_closed(self, event: Any) -> None:
        self.closed = True
        self.ended()

    def _headers(self) -> tuple[Any, ...]:
        if self._headers_sent:
            return ()
        self._headers_sent = True
        return (_NO_HEADERS,)


def _ignore(event: Any) -> None:
    """The end of a call is told to who watches it."""
