"""A stream of samples as an asynchronous iterator. `_resumption` says what to ask for; this file makes the calls."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, cast

import grpc

from latentserve.v1 import generation_pb2
from latentserve_client._call import REQUEST_ID_KEY, parse_request_id
from latentserve_client._resumption import Resumption
from latentserve_client.errors import CancelledError, ClosedError, DeadlineExceededError, ReplyError, from_rpc_error
from latentserve_client.options import ImagesT
from latentserve_client.results import Samples

_METHOD = "StreamSamples"


class AsyncSampleStream(Generic[ImagesT]):
    """`SampleStream` for asyncio. Cancelling the task that awaits a chunk ends the call and the stream."""

    def __init__(
        self,
        rpc: grpc.aio.UnaryStreamMultiCallable[
            generation_pb2.StreamSamplesRequest, generation_pb2.StreamSamplesResponse
        ],
        request: generation_pb2.StreamSamplesRequest,
        timeout: float,
        request_id: str,
        *,
        closing: asyncio.Event,
    ) -> None:
        self._rpc = rpc
        self._resumption = Resumption(request)
        self._timeout = timeout
        self._request_id = request_id
        self._closing = closing
        self._closed = False
        self._call: Any = None

    @property
    def seed(self) -> int:
        """As SampleStream.seed."""
        return self._resumption.request.seed

    @property
    def next_index(self) -> int:
        """As SampleStream.next_index."""
        return self._resumption.request.first_index

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the call. Closing twice is closing once."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Samples[ImagesT]:
        """The next chunk, within the timeout, resuming included."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        if self._resumption.complete:
            await self._finish(deadline)
            raise StopAsyncIteration
        try:
            async with asyncio.timeout_at(deadline):
                return await self._next(deadline)
        except TimeoutError as error:
            self.close()
            message = f"no chunk within {self._timeout:g} s"
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise DeadlineExceededError(code, message, _METHOD, self._request_id) from error
        except BaseException:
            self.close()
            raise

    async def _next(self, deadline: float) -> Samples[ImagesT]:
        while True:
            if self._closed or self._closing.is_set():
                raise ClosedError("the stream is closed")
            try:
                response = await self._read()
            except grpc.RpcError as error:
                self._call = None
                await self._wait_to_resume(error, deadline)
                continue
            if response is grpc.aio.EOF:
                raise ReplyError(f"the stream ended with {self._resumption.request.count} images still to come")
            return cast("Samples[ImagesT]", self._resumption.take(response, self._request_id))

    async def _read(self) -> Any:
        """The next message of the call, which is made where there is none; EOF at its end."""
        if self._call is None:
            self._call = self._rpc(self._resumption.request, metadata=((REQUEST_ID_KEY, self._request_id),))
        try:
            return await self._call.read()
        except asyncio.CancelledError as error:
            # As in a single call: the task's own cancellation passes, the end of the call under it is an error.
            task = asyncio.current_task()
            if not (self._closed or self._closing.is_set()) or task is None or task.cancelling():
                raise
            raise self._closed_under_way() from error

    async def _wait_to_resume(self, error: grpc.RpcError, deadline: float) -> None:
        """Return when it is time for the next call; raise what `error` means where there is to be none."""
        broken = from_rpc_error(error, _METHOD, parse_request_id(error.trailing_metadata(), self._request_id))
        if self._closed or self._closing.is_set():
            raise self._closed_under_way() from error
        pause = self._resumption.pause(broken.code, error.trailing_metadata())
        if pause is None or pause >= deadline - asyncio.get_running_loop().time():
            raise broken from error
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._closing.wait()

    def _closed_under_way(self) -> CancelledError:
        message = "the stream was closed while it was read"
        return CancelledError(grpc.StatusCode.CANCELLED, message, _METHOD, self._request_id)

    async def _finish(self, deadline: float) -> None:
        """Read the call's status, so that the server sees it end well; nothing depends on it any more."""
        surplus = grpc.aio.EOF
        if self._call is not None:
            with suppress(grpc.RpcError, CancelledError, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    surplus = await self._read()
        self._call = None
        if surplus is not grpc.aio.EOF:
            raise ReplyError("the stream goes on after the last image that was asked for")
