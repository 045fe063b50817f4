"""The rules by which a stream of samples goes on after a break."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import grpc

from latentserve.v1 import generation_pb2
from latentserve_client._calls.exchange import Exchange
from latentserve_client._calls.replies import count_rows
from latentserve_client.errors import NumericsError, ReplyError
from latentserve_client.results import Samples

MAX_FRUITLESS_CALLS = 8
"""Calls in a row, at most, that end without a chunk; with the pauses between them, some seven seconds."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_JITTER = 0.2
_RESUMED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_PUSHBACK_KEY = "grpc-retry-pushback-ms"


class Resumption:
    """The rows of a stream that are still to come, and whether another call may bring them.

    Every chunk moves the request along, so that at any time it asks for what has not arrived. The first chunk also
    fixes the version: the rows of one stream are of one model, also when another version becomes the default meanwhile.
    It also fixes the numerics, where the server promises any.

    Args:
        exchange: the request for all rows, its seed set, and the meaning of a chunk.
        any_numerics: whether rows may have other last bits after a break than before it.
    """

    def __init__(self, exchange: Exchange[Samples], *, any_numerics: bool) -> None:
        self.exchange = exchange
        self._request: generation_pb2.StreamSamplesRequest = exchange.request
        self._any_numerics = any_numerics
        self._numerics = ""
        self._backoff = Backoff()

    @property
    def seed(self) -> int:
        """The seed of all rows."""
        return self._request.seed

    @property
    def next_index(self) -> int:
        """The index of the first row that has not arrived."""
        return self._request.first_index

    @property
    def complete(self) -> bool:
        """Whether every row has arrived."""
        return self._request.count == 0

    def take(self, response: generation_pb2.StreamSamplesResponse | None) -> Samples:
        """The images of the next message, None at the end of the call; the request moves on to what follows them.

        Raises:
            ReplyError: the message breaks the contract.
        """
        if response is None:
            raise ReplyError(f"the stream ended with {self._request.count} images still to come")
        chunk, rows = self.exchange.result(response), count_rows(self._request, response)
        self._request.first_index += rows
        self._request.count -= rows
        self._request.model.version = response.served.version
        self._numerics = response.served.numerics
        self._backoff = Backoff()
        return chunk

    def has_other_numerics(self, response: generation_pb2.StreamSamplesResponse | None) -> bool:
        """Whether the message's rows have other last bits than those so far, where that matters."""
        return not (response is None or self._any_numerics or self._numerics in ("", response.served.numerics))

    def pause_for_numerics(self, response: generation_pb2.StreamSamplesResponse, remaining: float) -> float:
        """Seconds, less than `remaining`, to wait for a call to another server than that of the message.

        Raises:
            NumericsError: there will be no other call.
        """
        pause = self._backoff.pause(grpc.StatusCode.UNAVAILABLE, None)
        if pause is None or pause >= remaining:
            raise NumericsError(self.next_index, self._numerics, response.served.numerics)
        return pause

    def pause_after(self, code: grpc.StatusCode, metadata: Iterable[Any] | None, remaining: float) -> float | None:
        """Seconds, less than `remaining`, to wait after a call that ended so; None if there will be no other."""
        pause = self._backoff.pause(code, metadata)
        return None if pause is None or pause >= remaining else pause


class Backoff:
    """How long to wait from one call to the next while no chunk comes."""

    def __init__(self) -> None:
        self._fruitless = 0

    def pause(self, code: grpc.StatusCode, metadata: Iterable[Any] | None) -> float | None:
        """Seconds to wait before the next call, after one that ended with `code`; None if there will be none.

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
