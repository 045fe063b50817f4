"""A client's channel, blocking and asyncio, and how a call is made over it."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import grpc

from latentserve.v1 import generation_pb2_grpc, models_pb2_grpc
from latentserve_client._calls.bearer import Bearer, Token, check_secrecy
from latentserve_client._calls.channel import (
    BLOCKING_CHANNEL_OPTIONS,
    CHANNEL_OPTIONS,
    check_address,
    for_address,
    proxy_variable,
    untold_address,
)
from latentserve_client._calls.exchange import Exchange, ResultT, build_timeout
from latentserve_client._calls.handshake import explain_handshake
from latentserve_client.errors import CallError, ClosedError, RequestError
from latentserve_client.tls import Tls

EventT = TypeVar("EventT", bound=threading.Event | asyncio.Event)

_STATE_SECONDS = 1.0
"""The longest wait for a channel to tell its state, which it does at once."""

_OBSTACLE_SECONDS = 0.5
"""The same for why there is no connection."""

_HEALTH = "/grpc.health.v1.Health/Check"
"""A method that changes nothing, should there be a connection just then, and that is not tried again."""


class Link(Generic[EventT]):
    """The way to one server, or to all of one name.

    Args:
        target: the address; None for a channel of the caller's own.
        closing: set when the client is closed.
        is_connected: whether there is a connection now.
        secure: whether TLS is spoken there, as far as is known.
        tls: how, where it is known.

    Attributes:
        closing: as given.
        answered: whether there was ever an answer. From then on calls wait, within their timeouts, while there is no
            connection, for the server was there and comes back. Before, the address may be wrong, and they fail.
    """

    def __init__(
        self,
        target: str | None,
        closing: EventT,
        is_connected: Callable[[], bool],
        *,
        secure: bool = False,
        tls: Tls | None = None,
    ) -> None:
        self._target = target
        self._secure, self._tls = secure, tls
        self._is_connected = is_connected
        self._proxy = None if target is None else proxy_variable(target)
        self.closing = closing
        self.answered = False

    def failure(self, exchange: Exchange[Any], error: grpc.RpcError, timeout: float, obstacle: str = "") -> CallError:
        """The error to raise from `error`; if no server answered, it says what is known on this side.

        `obstacle` is what gRPC says of the last attempt to connect, where it was asked.
        """
        failure = exchange.failure(error)
        if failure.answered:
            self.answered = True
            return failure
        if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return self.late(exchange, "answer", timeout, self._by_tls(obstacle))
        if failure.code is grpc.StatusCode.CANCELLED and self.closing.is_set():
            return self.closed_under_way(exchange)
        hints = f"{self._by_name(failure.message)}{self._by_proxy()}"
        return exchange.ended(failure.code, f"{self._by_tls(failure.message)}{failure.message}{hints}")

    def closed_under_way(self, exchange: Exchange[Any]) -> CallError:
        """The error for a call that close() has ended."""
        return exchange.ended(grpc.StatusCode.CANCELLED, "the client was closed during the call")

    def late(self, exchange: Exchange[Any], what: str, timeout: float, cause: str = "") -> CallError:
        """The error for a `what` that has not come within `timeout` seconds; it says whether the server was reached."""
        if self._is_connected():
            why = "the server was reached and is not done"
        else:
            why = f"{cause}there is no connection{f' to {self._target}' if self._target else ''}{self._by_proxy()}"
        message = f"no {what} within the timeout of {timeout:g} s: {why}"
        return exchange.ended(grpc.StatusCode.DEADLINE_EXCEEDED, message)

    def is_waiting(self, error: grpc.RpcError | grpc.aio.AioRpcError) -> bool:
        """Whether a call has waited in vain for a connection by TLS, which may have become impossible."""
        late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return late and self._secure and self.answered and not self._is_connected()

    def _by_tls(self, details: str) -> str:
        shown = None if self._tls is None else self._tls.cert is not None
        cause = explain_handshake(details, self._target or "the server", secure=self._secure, shown=shown)
        return f"{cause}: " if cause else ""

    def _by_name(self, details: str) -> str:
        other = None if self._target is None else untold_address(self._target, details)
        return (
            f"; localhost has another address, of which gRPC says nothing: call {other} to hear of it" if other else ""
        )

    def _by_proxy(self) -> str:
        if self._proxy is None:
            return ""
        return f"; {self._proxy} is set, and gRPC goes through that proxy unless no_proxy names the host"


class Connection(Generic[EventT]):
    """Something to make calls with, until it is closed; what both kinds know of that."""

    _rpcs: dict[str, Any]

    def __init__(self, timeout: float, link: Link[EventT], token: Token | None) -> None:
        self._timeout = build_timeout(timeout)
        self._link = link
        self._bearer = Bearer(token)

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._link.closing.is_set()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("the client is closed")

    def _begin(self, exchange: Exchange[Any]) -> float:
        """Seconds that the call, or one chunk, may take; ClosedError where there can be none."""
        self._check_open()
        return self._timeout if exchange.timeout is None else exchange.timeout

    def _metadata(self, exchange: Exchange[Any]) -> tuple[tuple[str, str], ...]:
        """What is sent along with the message, and who calls."""
        return exchange.metadata + self._bearer.metadata


class BlockingConnection(Connection[threading.Event]):
    """A channel to a server, open until close()."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout: float = 30.0,
        tls: Tls | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        channel: grpc.Channel | None = None,
        token: Token | None = None,
        token_in_plain_text: bool = False,
    ) -> None:
        credentials = _credentials(tls, credentials, channel)
        address = None if channel else check_address(target)
        link = Link(address, threading.Event(), self._is_connected, secure=credentials is not None, tls=tls)
        super().__init__(timeout, link, token)
        self._owns_channel = channel is None
        if channel is None:
            has_token, is_encrypted = token is not None, credentials is not None
            check_secrecy(target, has_token=has_token, is_encrypted=is_encrypted, allowed=token_in_plain_text)
            options = (*for_address(target, BLOCKING_CHANNEL_OPTIONS), *(tls.options() if tls else ()))
            channel = (
                grpc.insecure_channel(target, options=options)
                if credentials is None
                else grpc.secure_channel(target, credentials, options=options)
            )
        self._channel = channel
        self._rpcs = _rpcs_over(channel)
        self._health: Any = channel.unary_unary(_HEALTH)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the calls in flight, as CancelledError, and the channel. Closing twice is closing once."""
        if not self.closed:
            self._link.closing.set()
            if self._owns_channel:
                self._channel.close()

    def _run(self, exchange: Exchange[ResultT]) -> ResultT:
        timeout = self._begin(exchange)
        try:
            response, call = self._rpcs[exchange.method].with_call(
                exchange.request,
                timeout=timeout,
                metadata=self._metadata(exchange),
                wait_for_ready=self._link.answered,
            )
        except grpc.RpcError as error:
            raise self._link.failure(exchange, error, timeout, self._obstacle(error)) from error
        self._link.answered = True
        return exchange.result(response, call.trailing_metadata())

    def _obstacle(self, error: grpc.RpcError) -> str:
        """Why there is no connection, in gRPC's words: a call that does not wait for one is told at once."""
        if not self._link.is_waiting(error):
            return ""
        try:
            self._health(b"", timeout=_OBSTACLE_SECONDS)
        except grpc.RpcError as told:
            return str(told.details())
        return ""

    def _is_connected(self) -> bool:
        if self.closed:
            return False
        # A blocking channel tells its state only to watchers, from a thread.
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        watcher = states.put
        self._channel.subscribe(watcher)
        try:
            return states.get(timeout=_STATE_SECONDS) is grpc.ChannelConnectivity.READY
        except queue.Empty:
            return False
        finally:
            self._channel.unsubscribe(watcher)


class AsyncConnection(Connection[asyncio.Event]):
    """A channel to a server, open until close(), for asyncio."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout: float = 30.0,
        tls: Tls | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        channel: grpc.aio.Channel | None = None,
        token: Token | None = None,
        token_in_plain_text: bool = False,
    ) -> None:
        credentials = _credentials(tls, credentials, channel)
        address = None if channel else check_address(target)
        link = Link(address, asyncio.Event(), self._is_connected, secure=credentials is not None, tls=tls)
        super().__init__(timeout, link, token)
        self._owns_channel = channel is None
        if channel is None:
            has_token, is_encrypted = token is not None, credentials is not None
            check_secrecy(target, has_token=has_token, is_encrypted=is_encrypted, allowed=token_in_plain_text)
            options = (*for_address(target, CHANNEL_OPTIONS), *(tls.options() if tls else ()))
            channel = (
                grpc.aio.insecure_channel(target, options=options)
                if credentials is None
                else grpc.aio.secure_channel(target, credentials, options=options)
            )
        self._channel = channel
        self._rpcs = _rpcs_over(channel)
        self._health: Any = channel.unary_unary(_HEALTH)

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the calls in flight, as CancelledError, and the channel. Closing twice is closing once."""
        if not self.closed:
            self._link.closing.set()
            if self._owns_channel:
                await self._channel.close()

    async def _run(self, exchange: Exchange[ResultT]) -> ResultT:
        timeout = self._begin(exchange)
        call = self._rpcs[exchange.method](
            exchange.request,
            timeout=timeout,
            metadata=self._metadata(exchange),
            wait_for_ready=self._link.answered,
        )
        try:
            response = await call
        except grpc.RpcError as error:
            raise self._link.failure(exchange, error, timeout, await self._obstacle(error)) from error
        except asyncio.CancelledError as error:
            if not cancelled_by_closing(self.closed):
                raise
            raise self._link.closed_under_way(exchange) from error
        self._link.answered = True
        return exchange.result(response, await call.trailing_metadata())

    async def _obstacle(self, error: grpc.RpcError) -> str:
        """As BlockingConnection's."""
        if not self._link.is_waiting(error):
            return ""
        try:
            await self._health(b"", timeout=_OBSTACLE_SECONDS)
        except grpc.RpcError as told:
            return str(told.details())
        return ""

    def _is_connected(self) -> bool:
        return not self.closed and self._channel.get_state() is grpc.ChannelConnectivity.READY


def _credentials(
    tls: Tls | None, credentials: grpc.ChannelCredentials | None, channel: object
) -> grpc.ChannelCredentials | None:
    if tls is None:
        return credentials
    if credentials is not None or channel is not None:
        raise RequestError("tls: not beside credentials, or a channel, which has its own")
    return tls.credentials()


def _rpcs_over(channel: grpc.Channel | grpc.aio.Channel) -> dict[str, Any]:
    """What makes each call over the channel, by the name of its method, which no two services share."""
    services = (
        generation_pb2_grpc.GenerationServiceStub(channel),
        models_pb2_grpc.ModelServiceStub(channel),
        models_pb2_grpc.ModelAdminServiceStub(channel),
    )
    return {method: rpc for service in services for method, rpc in vars(service).items()}


def cancelled_by_closing(closed: bool) -> bool:
    """Whether an asyncio.CancelledError is the end of a call under the task that awaited it.

    gRPC says this both when the awaiting task is cancelled, which is the caller's own affair, and when the call or its
    channel is closed under it, which the task did not ask for.
    """
    task = asyncio.current_task()
    return closed and task is not None and not task.cancelling()
