"""Streams of samples, as a blocking and as an asynchronous iterator."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Any, Generic, Self

import grpc

from latentserve_client._calls.resumption import Resumption
from latentserve_client._transport.connection import (
    Connection,
    EventT,
    cancelled_by_closing,
)
from latentserve_client.errors import CallError, CancelledError, ClosedError, ReplyError
from latentserve_client.results import Samples


class _Stream(Generic[EventT]):
    """The common part of both kinds of stream: the rows still to come, and the call under way."""

    def __init__(self, connection: Connection[EventT], resumption: Resumption) -> None:
        self._resumption = resumption
        self._exchange = resumption.exchange
        self._timeout = connection._begin(self._exchange)
        self._rpc = connection._rpcs[self._exchange.method]
        self._link = connection._link
        self._metadata = connection._metadata
        self._closed = False
        self._call: Any = None

    @property
    def seed(self) -> int:
        """The seed of all images."""
        return self._resumption.seed

    @property
    def next_index(self) -> int:
        """The index of the first row that has not arrived: where a stream of the same seed would go on."""
        return self._resumption.next_index

    def close(self) -> None:
        """End the call. Closing twice is closing once."""
        self._closed = True
        if (call := self._call) is not None:
            call.cancel()

    @property
    def _ended(self) -> bool:
        """Whether the stream or its client was closed."""
        return self._closed or self._link.closing.is_set()

    def _check_open(self) -> None:
        if self._ended:
            raise ClosedError("the stream is closed")

    def _open_call(self) -> Any:
        """The call under way; makes one if there is none."""
        if self._call is None:
            self._call = self._rpc(
                self._exchange.request,
                metadata=self._metadata(self._exchange),
                wait_for_ready=self._link.answered,
            )
        return self._call

    def _take(self, response: Any, remaining: float) -> Samples | float:
        """The images of the next message or, where they have other bits, seconds to wait for a call to another server.

        A `response` of None means the call ended. The wait never exceeds `remaining`.
        """
        if self._resumption.has_other_numerics(response):
            self._call.cancel()
            self._call = None
            return self._resumption.pause_for_numerics(response, remaining)
        chunk = self._resumption.take(response)
        self._link.answered = True
        return chunk

    def _pause_after(self, error: grpc.RpcError, remaining: float) -> float:
        """Seconds, at most `remaining`, to wait for the next call; raises what `error` means if there will be none."""
        self._call = None
        if self._ended:
            raise self._closed_under_way() from error
        if remaining <= 0:
            raise self._late() from error
        failure = self._link.failure(self._exchange, error, self._timeout)
        pause = self._resumption.pause_after(failure.code, error.trailing_metadata(), remaining)
        if pause is None:
            raise failure from error
        return pause

    def _finish(self, surplus: Any) -> None:
        """Forget the call, after whose last image nothing should have come."""
        self._call = None
        if surplus is not None:
            raise ReplyError("the stream goes on after the last image that was asked for")

    def _closed_under_way(self) -> CallError:
        return self._exchange.ended(grpc.StatusCode.CANCELLED, "the stream was closed while it was read")

    def _late(self) -> CallError:
        return self._link.late(self._exchange, "chunk", self._timeout)


class SampleStream(_Stream[threading.Event]):
    """Chunks of samples in index order, each a Samples.

    The next chunk is made while one is worked on; the server makes none beyond that. A call that the server breaks off
    with UNAVAILABLE or CANCELLED, or tells to come back later, is followed by one for the rows that have not arrived,
    of the same model version and with the same numerics. After eight calls without a chunk the error of the last is
    raised.

    close() ends the call, from any thread; so does the end of a `with` block, and any error that is raised. One thread
    reads a stream.

    Raises:
        CallError: from next(), as the class that fits the status; DeadlineExceededError where no chunk came in time.
        ReplyError: from next(), for a chunk that breaks the contract.
        NumericsError: from next(), where rows could only go on with other last bits.
        ClosedError: from next(), after close() or an error.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Samples:
        """The next chunk, within the timeout, resuming included."""
        deadline = time.monotonic() + self._timeout
        if self._resumption.complete:
            self._read_end(deadline)
            raise StopIteration
        try:
            return self._next(deadline)
        except BaseException:
            self.close()
            raise

    def _next(self, deadline: float) -> Samples:
        while True:
            self._check_open()
            try:
                response = self._read(deadline)
            except grpc.RpcError as error:
                taken: Samples | float = self._pause_after(error, deadline - time.monotonic())
            else:
                taken = self._take(response, deadline - time.monotonic())
            if isinstance(taken, Samples):
                return taken
            self._link.closing.wait(taken)

    def _read(self, deadline: float) -> Any:
        """The next message; None at the end of the call."""
        call = self._open_call()
        if self._closed:  # close() may have come before there was a call to cancel
            call.cancel()
        # The deadline is that of one message; gRPC knows only those of whole calls.
        late = threading.Timer(deadline - time.monotonic(), call.cancel)
        late.daemon = True
        late.start()
        try:
            return next(call, None)
        finally:
            late.cancel()

    def _read_end(self, deadline: float) -> None:
        """Read the call's status, so that the server sees it end well; nothing depends on it any more."""
        surplus = None
        if self._call is not None:
            with suppress(grpc.RpcError):
                surplus = self._read(deadline)
        self._finish(surplus)


class AsyncSampleStream(_Stream[asyncio.Event]):
    """`SampleStream` for asyncio. Cancelling the task that awaits a chunk ends the call and the stream."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Samples:
        """The next chunk, within the timeout, resuming included."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        if self._resumption.complete:
            await self._read_end(deadline)
            raise StopAsyncIteration
        try:
            async with asyncio.timeout_at(deadline):
                return await self._next(deadline)
        except TimeoutError as error:
            self.close()
            raise self._late() from error
        except BaseException:
            self.close()
            raise

    async def _next(self, deadline: float) -> Samples:
        clock = asyncio.get_running_loop().time
        while True:
            self._check_open()
            try:
                response = await self._read()
            except grpc.RpcError as error:
                taken: Samples | float = self._pause_after(error, deadline - clock())
            else:
                taken = self._take(response, deadline - clock())
            if isinstance(taken, Samples):
                return taken
            with suppress(TimeoutError):
                async with asyncio.timeout(taken):
                    await self._link.closing.wait()

    async def _read(self) -> Any:
        """The next message; None at the end of the call."""
        try:
            response = await self._open_call().read()
        except asyncio.CancelledError as error:
            if not cancelled_by_closing(self._ended):
                raise
            raise self._closed_under_way() from error
        return None if response is grpc.aio.EOF else response

    async def _read_end(self, deadline: float) -> None:
        """Read the call's status, so that the server sees it end well; nothing depends on it any more."""
        surplus = None
        if self._call is not None:
            with suppress(grpc.RpcError, CancelledError, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    surplus = await self._read()
        self._finish(surplus)
