"""What a client's calls share: the channel, its life, and how one call is made. `_aio_connection` awaits them."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Any, Generic, Self

import grpc

from latentserve.v1 import generation_pb2_grpc, models_pb2_grpc
from latentserve_client._address import check_address
from latentserve_client._channel import BLOCKING_CHANNEL_OPTIONS, for_address
from latentserve_client._exchange import Exchange, RequestT, ResponseT, ResultT, build_timeout
from latentserve_client._link import EventT, Link
from latentserve_client.errors import ClosedError

_STATE_SECONDS = 1.0
"""What is waited at most for a channel to tell its state, which it does at once."""


class Connection(Generic[EventT]):
    """Something to make calls with, until it is closed; what both kinds know of that."""

    def __init__(self, timeout: float, link: Link[EventT]) -> None:
        self._timeout = build_timeout(timeout)
        self._link = link

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._link.closing.is_set()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("the client is closed")

    def _begin(self, exchange: Exchange[Any, Any, Any]) -> float:
        """Seconds that the call, or one chunk, may take; ClosedError where there can be none."""
        self._check_open()
        return self._timeout if exchange.timeout is None else exchange.timeout


class BlockingConnection(Connection[threading.Event]):
    """A channel to a server, open until close()."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout: float = 30.0,
        credentials: grpc.ChannelCredentials | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        link = Link(None if channel else check_address(target), threading.Event(), self._is_connected)
        super().__init__(timeout, link)
        self._owns_channel = channel is None
        if channel is None:
            options = for_address(target, BLOCKING_CHANNEL_OPTIONS)
            channel = (
                grpc.insecure_channel(target, options=options)
                if credentials is None
                else grpc.secure_channel(target, credentials, options=options)
            )
        self._channel = channel
        self._generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self._models = models_pb2_grpc.ModelServiceStub(channel)
        self._admin = models_pb2_grpc.ModelAdminServiceStub(channel)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the calls in flight, as CancelledError, and the channel. Closing twice is closing once."""
        if not self.closed:
            self._link.closing.set()
            if self._owns_channel:
                self._channel.close()

    def _run(
        self, rpc: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT], exchange: Exchange[RequestT, ResponseT, ResultT]
    ) -> ResultT:
        timeout = self._begin(exchange)
        try:
            response, call = rpc.with_call(
                exchange.request, timeout=timeout, metadata=exchange.metadata, wait_for_ready=self._link.answered
            )
        except grpc.RpcError as error:
            raise self._link.failure(exchange, error, timeout) from error
        self._link.answered = True
        return exchange.result(response, call.trailing_metadata())

    def _is_connected(self) -> bool:
        if self.closed:
            return False
        # A blocking channel tells its state to those alone who watch it, from a thread.
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        watcher = states.put
        self._channel.subscribe(watcher)
        try:
            return states.get(timeout=_STATE_SECONDS) is grpc.ChannelConnectivity.READY
        except queue.Empty:
            return False
        finally:
            self._channel.unsubscribe(watcher)
