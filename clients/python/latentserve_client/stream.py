"""A stream of samples as a blocking iterator. `_resumption` says what to ask for next; this file waits for it."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import grpc

from latentserve_client._calls.resumption import ResumedStream
from latentserve_client._transport.connection import cancelled_by_closing
from latentserve_client.errors import CancelledError
from latentserve_client.options import ImagesT
from latentserve_client.results import Samples


class SampleStream(ResumedStream[ImagesT, threading.Event]):
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Samples[ImagesT]:
        """The next chunk, within the timeout, resuming included."""
        deadline = time.monotonic() + self._timeout
        if self._complete:
            self._read_end(deadline)
            raise StopIteration
        try:
            return self._next(deadline)
        except BaseException:
            self.close()
            raise

    def _next(self, deadline: float) -> Samples[ImagesT]:
        while True:
            self._check_open()
            try:
                response = self._read(deadline)
            except grpc.RpcError as error:
                self._link.closing.wait(self._pause_after(error, deadline - time.monotonic()))
            else:
                if (pause := self._pause_instead_of(response, deadline - time.monotonic())) is None:
                    return self._take(response)
                self._link.closing.wait(pause)

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


class AsyncSampleStream(ResumedStream[ImagesT, asyncio.Event]):
    """`SampleStream` for asyncio. Cancelling the task that awaits a chunk ends the call and the stream."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Samples[ImagesT]:
        """The next chunk, within the timeout, resuming included."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        if self._complete:
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

    async def _next(self, deadline: float) -> Samples[ImagesT]:
        while True:
            self._check_open()
            try:
                response = await self._read()
            except grpc.RpcError as error:
                pause = self._pause_after(error, deadline - asyncio.get_running_loop().time())
            else:
                again = self._pause_instead_of(response, deadline - asyncio.get_running_loop().time())
                if again is None:
                    return self._take(response)
                pause = again
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
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
