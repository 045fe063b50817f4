"""A stream of samples as an asynchronous iterator. `_resumption` says what to ask for next; this file waits for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import grpc

from latentserve_client._aio_connection import cancelled_by_closing
from latentserve_client._resumption import ResumedStream
from latentserve_client.errors import CancelledError
from latentserve_client.options import ImagesT
from latentserve_client.results import Samples


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
