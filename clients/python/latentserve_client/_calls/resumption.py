"""A stream of samples that survives its calls: where it stands, and whether to go on when a call ends early.

Bookkeeping of messages and statuses, shared by the two clients; they make the calls and wait.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeAlias, cast

import grpc

from latentserve.v1 import generation_pb2
from latentserve_client._calls.exchange import Exchange
from latentserve_client._calls.replies import count_rows, parse_chunk
from latentserve_client._transport.link import EventT, Link
from latentserve_client.errors import CallError, ClosedError, NumericsError, ReplyError
from latentserve_client.options import ImagesT, Pictures
from latentserve_client.results import Samples

MAX_FRUITLESS_CALLS = 8
"""Calls in a row, at most, that end without a chunk; with the pauses between them, some seven seconds."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_JITTER = 0.2
_RESUMED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_PUSHBACK_KEY = "grpc-retry-pushback-ms"

_Exchange: TypeAlias = Exchange[
    generation_pb2.StreamSamplesRequest, generation_pb2.StreamSamplesResponse, Samples[Pictures]
]


class ChunkExchange(_Exchange):
    """A request, and what each chunk of the answer means.

    Args:
        request: the message to send, its seed set.
        any_numerics: whether rows may have other last bits after a break than before it.
        timeout: as CallOptions'.
        request_id: as CallOptions'.
    """

    def __init__(
        self,
        request: generation_pb2.StreamSamplesRequest,
        *,
        any_numerics: bool,
        timeout: float | None,
        request_id: str | None,
    ) -> None:
        super().__init__("StreamSamples", request, parse_chunk, timeout, request_id)
        self.any_numerics = any_numerics


class ResumedStream(Generic[ImagesT, EventT]):
    """What both kinds of stream know: the rows that are still to come, the call under way, and whether it may go on.

    Every chunk moves the request along, so that at any time it asks for what has not arrived. The first chunk also
    fixes the version: the rows of one stream are of one model, also when another version becomes the default meanwhile.
    It fixes the numerics, too, where the server promises any.

    Args:
        rpc: makes a call.
        exchange: the request for all rows.
        timeout: seconds that one chunk may take.
        link: the client's.
    """

    def __init__(self, rpc: Callable[..., Any], exchange: ChunkExchange, timeout: float, link: Link[EventT]) -> None:
        self._rpc = rpc
        self._exchange = exchange
        self._timeout = timeout
        self._link = link
        self._numerics = ""
        self._closed = False
        self._call: Any = None
        self._backoff = Backoff()

    @property
    def seed(self) -> int:
        """The seed of all images."""
        return self._exchange.request.seed

    @property
    def next_index(self) -> int:
        """The index of the first row that has not arrived: where a stream of the same seed would go on."""
        return self._exchange.request.first_index

    def close(self) -> None:
        """End the call. Closing twice is closing once."""
        self._closed = True
        if (call := self._call) is not None:
            call.cancel()

    @property
    def _complete(self) -> bool:
        """Whether every row has arrived."""
        return self._exchange.request.count == 0

    @property
    def _ended(self) -> bool:
        """Whether the stream or its client was closed."""
        return self._closed or self._link.closing.is_set()

    def _open_call(self) -> Any:
        """The call under way, which is made where there is none."""
        if self._call is None:
            self._call = self._rpc(
                self._exchange.request, metadata=self._exchange.metadata, wait_for_ready=self._link.answered
            )
        return self._call

    def _check_open(self) -> None:
        if self._ended:
            raise ClosedError("the stream is closed")

    def _take(self, response: generation_pb2.StreamSamplesResponse | None) -> Samples[ImagesT]:
        """The images of the next message, None at the end of the call; the request moves on to what follows them."""
        request = self._exchange.request
        if response is None:
            raise ReplyError(f"the stream ended with {request.count} images still to come")
        chunk, rows = self._exchange.result(response), count_rows(request, response)
        self._link.answered = True
        request.first_index += rows
        request.count -= rows
        request.model.version = response.served.version
        self._numerics = response.served.numerics
        self._backoff = Backoff()
        return cast("Samples[ImagesT]", chunk)

    def _pause_instead_of(
        self, response: generation_pb2.StreamSamplesResponse | None, remaining: float
    ) -> float | None:
        """Seconds, of the remaining, to wait for a call to another server, where this one computes other bits.

        None where it does not, or where that is all right; raises where there is to be no other call.
        """
        if response is None or self._exchange.any_numerics or self._numerics in ("", response.served.numerics):
            return None
        self._call.cancel()
        self._call = None
        pause = self._backoff.pause(grpc.StatusCode.UNAVAILABLE, None)
        if pause is None or pause >= remaining:
            raise NumericsError(self.next_index, self._numerics, response.served.numerics)
        return pause

    def _finish(self, surplus: generation_pb2.StreamSamplesResponse | None) -> None:
        """Forget the call, after whose last image nothing should have come."""
        self._call = None
        if surplus is not None:
            raise ReplyError("the stream goes on after the last image that was asked for")

    def _pause_after(self, error: grpc.RpcError, remaining: float) -> float:
        """Seconds, of the remaining, to wait for the next call; raises what `error` means where there is to be none."""
        self._call = None
        if self._ended:
            raise self._closed_under_way() from error
        if remaining <= 0:
            raise self._late() from error
        failure = self._link.failure(self._exchange, error, self._timeout)
        pause = self._backoff.pause(failure.code, error.trailing_metadata())
        if pause is None or pause >= remaining:
            raise failure from error
        return pause

    def _closed_under_way(self) -> CallError:
        return self._exchange.ended(grpc.StatusCode.CANCELLED, "the stream was closed while it was read")

    def _late(self) -> CallError:
        return self._link.late(self._exchange, "chunk", self._timeout)


class Backoff:
    """How long to wait from one call to the next while no chunk comes."""

    def __init__(self) -> None:
        self._fruitless = 0

    def pause(self, code: grpc.StatusCode, metadata: Iterable[Any] | None) -> float | None:
        """Seconds to wait before the next call, after one that ended with `code`; None where there is to be none.

        A server that is too busy says in the trailing `metadata` when to come back, and is obeyed.
        """
        pushback = _parse_pushback(metadata)
        if code not in _RESUMED and not (code is grpc.StatusCode.RESOURCE_EXHAUSTED and pushback is not None):
            return None
        self._fruitless += 1
        if self._fruitless >= MAX_FRUITLESS_CALLS:
            return None
        backoff = min(_FIRST_PAUSE_SECONDS * 2.0 ** (self._fruitless - 1), _LONGEST_PAUSE_SECONDS)
        return max(backoff * random.uniform(1 - _JITTER, 1 + _JITTER), pushback or 0.0)


def _parse_pushback(metadata: Iterable[Any] | None) -> float | None:
    """Seconds, where the trailing (key, value) pairs have a pushback that asks for another attempt."""
    for key, value in metadata or ():
        if key == _PUSHBACK_KEY and isinstance(value, str) and value.isdecimal():
            return int(value) / 1000
    return None
