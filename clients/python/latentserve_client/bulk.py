"""Work of any size, in calls of as many rows as the model's limits and the message size allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from latentserve_client._channel import MAX_MESSAGE_BYTES
from latentserve_client.client import Client
from latentserve_client.model_ref import ModelRef
from latentserve_client.types import ModelInfo

ArrayFormat: TypeAlias = Literal["float32", "uint8"]

_ENVELOPE_BYTES = 64 * 1024  # what a message holds besides its rows, generously
_FLOAT_BYTES = 4


class BulkClient:
    """A Client's calls on one model version, without a limit on rows.

    The result is what a single call of that size would return, in the dtype that `format` names: rows are independent,
    and first_index moves along with them. Every call goes to the version that `info` describes, also when another
    becomes the default meanwhile.

    Args:
        client: makes the calls, one at a time.
        info: the model version and its limits.
        advance: told the number of rows of each call that has been answered.
    """

    def __init__(self, client: Client, info: ModelInfo, advance: Callable[[int], None]) -> None:
        self._client = client
        self._info = info
        self._model = ModelRef(info.name, version=info.version)
        self._advance = advance

    def sample(self, count: int, *, seed: int, first_index: int, format: ArrayFormat) -> NDArray[Any]:
        """Rows first_index to first_index + count - 1 of the seed: [count, channels, height, width]."""
        replies: list[NDArray[Any]] = []
        for rows in self._split(repeat(self._image_bytes(format), count)):
            reply = self._client.sample(
                self._model, len(rows), seed=seed, first_index=first_index + rows.start, format=format
            )
            replies.append(reply.images)
            self._advance(len(rows))
        return np.concatenate(replies)

    def encode(self, files: Sequence[bytes], *, draw_seed: int | None, first_index: int) -> NDArray[np.float32]:
        """Posterior means of the image files or, with a seed, a draw from each posterior: [n, latent_dim]."""
        replies: list[NDArray[np.float32]] = []
        reply_bytes = 3 * _FLOAT_BYTES * self._info.latent_dim
        for rows in self._split(max(len(file), reply_bytes) for file in files):
            reply = self._client.encode(
                self._model,
                files[rows.start : rows.stop],
                draw_seed=draw_seed,
                first_index=first_index if draw_seed is None else first_index + rows.start,
            )
            replies.append(reply.mean if reply.z is None else reply.z)
            self._advance(len(rows))
        return np.concatenate(replies)

    def decode(self, latents: NDArray[np.float32], *, format: ArrayFormat) -> NDArray[Any]:
        """The images of latents [n, latent_dim]: [n, channels, height, width]."""
        replies: list[NDArray[Any]] = []
        row_bytes = max(self._image_bytes(format), _FLOAT_BYTES * self._info.latent_dim)
        for rows in self._split(repeat(row_bytes, len(latents))):
            replies.append(self._client.decode(self._model, latents[rows.start : rows.stop], format=format).images)
            self._advance(len(rows))
        return np.concatenate(replies)

    def reconstruct(
        self, files: Sequence[bytes], *, format: ArrayFormat
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        """Reconstructions [n, channels, height, width] of the files, and their errors and KL, [n] each, in nats."""
        images: list[NDArray[Any]] = []
        errors: list[NDArray[np.float32]] = []
        divergences: list[NDArray[np.float32]] = []
        reply_bytes = self._image_bytes(format)
        for rows in self._split(max(len(file), reply_bytes) for file in files):
            reply = self._client.reconstruct(self._model, files[rows.start : rows.stop], format=format)
            images.append(reply.images)
            errors.append(reply.reconstruction_error)
            divergences.append(reply.kl)
            self._advance(len(rows))
        return np.concatenate(images), np.concatenate(errors), np.concatenate(divergences)

    def _image_bytes(self, format: ArrayFormat) -> int:
        return prod(self._info.image_shape) * np.dtype(format).itemsize

    def _split(self, row_bytes: Iterable[int]) -> Iterator[range]:
        limits = self._info.limits
        max_bytes = min(MAX_MESSAGE_BYTES, limits.max_message_bytes) - _ENVELOPE_BYTES
        return split(row_bytes, limits.max_rows_per_request, max_bytes)


def split(row_bytes: Iterable[int], max_rows: int, max_bytes: int) -> Iterator[range]:
    """Consecutive ranges of rows, each of at most `max_rows` rows and `max_bytes` bytes, and as long as both allow.

    A row that is too large by itself is a range of its own; the server says what is wrong with it.
    """
    start = end = held = 0
    for size in row_bytes:
        if end > start and (end - start >= max_rows or held + size > max_bytes):
            yield range(start, end)
            start, held = end, 0
        end += 1
        held += size
    if end > start:
        yield range(start, end)
