"""A stream of samples that survives its calls: where it stands, and whether to go on when a call ends early.

Pure bookkeeping of messages and statuses, shared by the two clients; they make the calls and wait.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import grpc

from latentserve.v1 import generation_pb2
from latentserve_client._payload import count_images, parse_images, parse_labels
from latentserve_client._replies import parse_served
from latentserve_client.errors import ReplyError
from latentserve_client.options import Pictures
from latentserve_client.results import Samples

MAX_FRUITLESS_CALLS = 8
"""Calls in a row, at most, that end without a chunk; with the pauses between them, some seven seconds."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_JITTER = 0.2
_RESUMED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_PUSHBACK_KEY = "grpc-retry-pushback-ms"


class Resumption:
    """The rows that are still to come.

    Every chunk moves the request along, so that at any time it asks for what has not arrived. The first chunk also
    fixes the version: the rows of one stream are of one model, also when another version becomes the default meanwhile.
    """

    def __init__(self, request: generation_pb2.StreamSamplesRequest) -> None:
        self.request = request
        """What to ask for next; its seed is set."""
        self._fruitless = 0

    @property
    def complete(self) -> bool:
        """Whether every row has arrived."""
        return self.request.count == 0

    def take(self, response: generation_pb2.StreamSamplesResponse, request_id: str) -> Samples[Pictures]:
        """The chunk's images; the request is for what follows them.

        Raises:
            ReplyError: the chunk is not the next one, or not of the size asked for.
        """
        request = self.request
        if (response.seed, response.first_index) != (request.seed, request.first_index):
            raise ReplyError(
                f"first_index: the chunk begins at {response.first_index} of seed {response.seed}; "
                f"{request.first_index} of {request.seed} is next"
            )
        rows = min(request.chunk_rows, request.count) or count_images(response.images)
        if not 1 <= rows <= request.count:
            raise ReplyError(f"images: the chunk has {rows} images; {request.count} are still to come")
        chunk = Samples(
            images=parse_images(response.images, request.output, rows),
            seed=response.seed,
            first_index=response.first_index,
            noise_scheme=response.noise_scheme,
            served=parse_served(response.served, request_id),
            labels=parse_labels(response.labels, rows),
        )
        request.first_index += rows
        request.count -= rows
        request.model.version = response.served.version
        self._fruitless = 0
        return chunk

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
