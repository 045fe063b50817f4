"""Jobs of any size, in calls as large as the model's limits allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_client._calls.channel import MAX_MESSAGE_BYTES
from latentserve_client.client import Client
from latentserve_client.errors import RequestError
from latentserve_client.inputs import ArrayFormat
from latentserve_client.models import ModelInfo, ModelRef
from latentserve_client.results import Pictures, Scores

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
        advance: called with the number of rows of each call that has been answered.
        labels: of a conditional model, one for all rows or one for each.
    """

    def __init__(
        self, client: Client, info: ModelInfo, advance: Callable[[int], object], labels: Sequence[int] | None = None
    ) -> None:
        self._client = client
        self._labels = labels
        self._info = info
        self._model = ModelRef(info.name, version=info.version)
        self._advance = advance

    def encode(self, files: Sequence[bytes], *, draw_seed: int | None, first_index: int, resize: bool) -> NDArray[Any]:
        """Posterior means, latents or codes of the image files or, with a seed, draws from the posteriors.

        float32 [n, *latent_shape], or int64 of codes.
        """
        replies: list[NDArray[Any]] = []
        reply_bytes = 3 * _FLOAT_BYTES * self._info.latent_dim
        for rows, labels in self._parts([max(len(file), reply_bytes) for file in files]):
            start = first_index if draw_seed is None else first_index + rows.start
            reply = self._client.encode(
                self._model, files[rows], draw_seed=draw_seed, first_index=start, resize=resize, labels=labels
            )
            replies += [rows for rows in (reply.z, reply.codes, reply.mean) if rows is not None][:1]
        return np.concatenate(replies)

    def decode(self, latents: NDArray[Any], *, format: ArrayFormat) -> NDArray[Any]:
        """The images of latents or codes, in either shape: [n, channels, height, width]."""
        row_bytes = max(image_bytes(self._info, format), latents[0].nbytes)
        replies = [
            self._client.decode(self._model, latents[rows], format=format, labels=labels)
            for rows, labels in self._parts([row_bytes] * len(latents))
        ]
        return np.concatenate([reply.images for reply in replies])

    def reconstruct(
        self, files: Sequence[bytes], *, format: ArrayFormat, resize: bool
    ) -> tuple[NDArray[Any], NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """Reconstructions [n, channels, height, width] of the files, and their errors and KL, [n] each, in nats.

        None stands for what the model has not.
        """
        reply_bytes = image_bytes(self._info, format)
        replies = [
            self._client.reconstruct(self._model, files[rows], format=format, resize=resize, labels=labels)
            for rows, labels in self._parts([max(len(file), reply_bytes) for file in files])
        ]
        return (
            np.concatenate([reply.images for reply in replies]),
            _joined(reply.reconstruction_error for reply in replies),
            _joined(reply.kl for reply in replies),
        )

    def score(
        self, files: Sequence[bytes], *, draws: int, seed: int, resize: bool, map_format: ArrayFormat | None = None
    ) -> Scores:
        """The scores of the files, with their maps where a format of these is given; served by the last call."""
        map_bytes = 0 if map_format is None else image_bytes(self._info, map_format)
        replies = [
            self._client.score(
                self._model,
                files[rows],
                first_index=rows.start,
                resize=resize,
                labels=labels,
                draws=draws,
                seed=seed,
                map=map_format,
            )
            for rows, labels in self._parts([max(len(file), map_bytes) for file in files], rows_each=draws)
        ]
        maps = [reply.map.images for reply in replies if reply.map is not None]
        return Scores(
            reconstruction_error=np.concatenate([reply.reconstruction_error for reply in replies]),
            kl=_joined(reply.kl for reply in replies),
            elbo=_joined(reply.elbo for reply in replies),
            importance_bound=_joined(reply.importance_bound for reply in replies),
            served=replies[-1].served,
            anomaly_percentile=_joined(reply.anomaly_percentile for reply in replies),
            map=Pictures(np.concatenate(maps)) if maps else None,
        )

    def _parts(self, row_bytes: Sequence[int], rows_each: int = 0) -> Iterator[tuple[slice, Sequence[int] | None]]:
        """The rows of each call, and their labels; rows_each of the model's make one row of the job, at least one."""
        max_rows = max(1, self._info.limits.max_rows_per_request // max(1, rows_each))
        for rows in split(row_bytes, max_rows, max_message_bytes(self._info)):
            yield slice(rows.start, rows.stop), self._labels_of(rows, len(row_bytes))
            self._advance(len(rows))

    def _labels_of(self, rows: range, total: int) -> Sequence[int] | None:
        """The labels of some of the rows."""
        if self._labels is None or len(self._labels) == 1:
            return self._labels
        if len(self._labels) != total:
            raise RequestError(f"labels has {len(self._labels)} labels for {total} rows; give one, or one for each")
        return self._labels[rows.start : rows.stop]


def _joined(parts: Iterable[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    """The parts in a row; None where there are none."""
    rows = [part for part in parts if part is not None]
    return np.concatenate(rows) if rows else None


def image_bytes(info: ModelInfo, format: ArrayFormat) -> int:
    """What one image of the model takes."""
    return prod(info.image_shape) * np.dtype(format).itemsize


def max_message_bytes(info: ModelInfo) -> int:
    """What the rows of one message may take."""
    return min(MAX_MESSAGE_BYTES, info.limits.max_message_bytes) - _ENVELOPE_BYTES


def max_image_rows(info: ModelInfo, format: ArrayFormat) -> int:
    """The number of images that one call may bring, at least 1."""
    return max(1, min(info.limits.max_rows_per_request, max_message_bytes(info) // image_bytes(info, format)))


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
