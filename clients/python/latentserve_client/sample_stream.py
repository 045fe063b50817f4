"""A stream of samples as a blocking iterator. `_resumption` says what to ask for next; this file makes the calls."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Generic, Self, cast

import grpc

from latentserve.v1 import generation_pb2
from latentserve_client._call import REQUEST_ID_KEY, parse_request_id
from latentserve_client._resumption import Resumption
from latentserve_client.errors import (
    CallError,
    CancelledError,
    ClosedError,
    DeadlineExceededError,
    ReplyError,
    from_rpc_error,
)
from latentserve_client.options import ImagesT
from latentserve_client.results import Samples

_METHOD = "StreamSamples"


class SampleStream(Generic[ImagesT]):
    """Chunks of samples in index order, each a Samples.

    The next chunk is made while one is worked on; the server makes none beyond that. A call that the server breaks off
    with UNAVAILABLE or CANCELLED, or tells to come back later, is followed by one for the rows that have not arrived,
    of the same model version. After eight calls without a chunk the error of the last is raised.

    close() ends the call, from any thread; so does the end of a `with` block, and any error that is raised. One thread
    reads a stream.

    Raises:
        CallError: from next(), as the class that fits the status; DeadlineExceededError where no chunk came in time.
        ReplyError: from next(), for a chunk that breaks the contract.
        ClosedError: from next(), after close() or an error.
    """

    def __init__(
        self,
        rpc: grpc.UnaryStreamMultiCallable[generation_pb2.StreamSamplesRequest, generation_pb2.StreamSamplesResponse],
        request: generation_pb2.StreamSamplesRequest,
        timeout: float,
        request_id: str,
        *,
        closing: threading.Event,
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
        """The seed of all images."""
        return self._resumption.request.seed

    @property
    def next_index(self) -> int:
        """The index of the first row that has not arrived: where a stream of the same seed would go on."""
        return self._resumption.request.first_index

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the call. Closing twice is closing once."""
        self._closed = True
        if (call := self._call) is not None:
            call.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Samples[ImagesT]:
        """The next chunk, within the timeout, resuming included."""
        deadline = time.monotonic() + self._timeout
        if self._resumption.complete:
            self._finish(deadline)
            raise StopIteration
        try:
            return self._next(deadline)
        except BaseException:
            self.close()
            raise

    def _next(self, deadline: float) -> Samples[ImagesT]:
        while True:
            if self._closed or self._closing.is_set():
                raise ClosedError("the stream is closed")
            try:
                response = self._read(deadline)
            except grpc.RpcError as error:
                self._call = None
                self._wait_to_resume(error, deadline)
                continue
            if response is None:
                raise ReplyError(f"the stream ended with {self._resumption.request.count} images still to come")
            return cast("Samples[ImagesT]", self._resumption.take(response, self._request_id))

    def _read(self, deadline: float) -> generation_pb2.StreamSamplesResponse | None:
        """The next message of the call, which is made where there is none; None at its end."""
        if self._call is None:
            self._call = self._rpc(self._resumption.request, metadata=((REQUEST_ID_KEY, self._request_id),))
        call = self._call
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

    def _wait_to_resume(self, error: grpc.RpcError, deadline: float) -> None:
        """Return when it is time for the next call; raise what `error` means where there is to be none."""
        if self._closed or self._closing.is_set():
            message = "the stream was closed while it was read"
            raise self._end(CancelledError, grpc.StatusCode.CANCELLED, message) from error
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            message = f"no chunk within {self._timeout:g} s"
            raise self._end(DeadlineExceededError, grpc.StatusCode.DEADLINE_EXCEEDED, message) from error
        metadata = error.trailing_metadata()  # which a call that was cancelled on this side need not have
        broken = from_rpc_error(error, _METHOD, parse_request_id(metadata, self._request_id))
        pause = self._resumption.pause(broken.code, metadata)
        if pause is None or pause >= remaining:
            raise broken from error
        self._closing.wait(pause)

    def _end(self, kind: type[CallError], code: grpc.StatusCode, message: str) -> CallError:
        return kind(code, message, _METHOD, self._request_id)

    def _finish(self, deadline: float) -> None:
        """Read the call's status, so that the server sees it end well; nothing depends on it any more."""
        if self._call is None:
            return
        try:
            surplus = self._read(deadline)
        except grpc.RpcError:
            surplus = None
        self._call = None
        if surplus is not None:
            raise ReplyError("the stream goes on after the last image that was asked for")
