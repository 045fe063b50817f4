"""The blocking calls that draw from the prior."""

from __future__ import annotations

from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from latentserve_client._calls import generation as _exchanges
from latentserve_client._transport.connection import BlockingConnection
from latentserve_client.models import ModelLike
from latentserve_client.options import FileFormat, Format, Pictures, SampleOptions, StreamOptions
from latentserve_client.results import Samples
from latentserve_client.stream import SampleStream


class Drawing(BlockingConnection):
    """Calls that draw from the prior."""

    @overload
    def sample(
        self, model: ModelLike, count: int, *, format: Literal["float32"] = ..., **options: Unpack[SampleOptions]
    ) -> Samples[NDArray[np.float32]]: ...
    @overload
    def sample(
        self, model: ModelLike, count: int, *, format: Literal["float16"], **options: Unpack[SampleOptions]
    ) -> Samples[NDArray[np.float16]]: ...
    @overload
    def sample(
        self, model: ModelLike, count: int, *, format: Literal["uint8"], **options: Unpack[SampleOptions]
    ) -> Samples[NDArray[np.uint8]]: ...
    @overload
    def sample(
        self,
        model: ModelLike,
        count: int,
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[SampleOptions],
    ) -> Samples[list[bytes]]: ...
    def sample(
        self,
        model: ModelLike,
        count: int,
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        **options: Unpack[SampleOptions],
    ) -> Samples[Pictures]:
        """`count` images drawn from the prior: rows first_index to first_index + count - 1 of `seed`'s sequence.

        Without a seed the client draws one, so that a retried call returns the images of the first attempt; the result
        has it. A row depends on seed and index alone, so a long job splits by first_index.
        """
        exchange = _exchanges.sample(model, count, format=format, grid_columns=grid_columns, **options)
        return self._run(self._generation.Sample, exchange)

    @overload
    def stream_samples(
        self, model: ModelLike, count: int, *, format: Literal["float32"] = ..., **options: Unpack[StreamOptions]
    ) -> SampleStream[NDArray[np.float32]]: ...
    @overload
    def stream_samples(
        self, model: ModelLike, count: int, *, format: Literal["float16"], **options: Unpack[StreamOptions]
    ) -> SampleStream[NDArray[np.float16]]: ...
    @overload
    def stream_samples(
        self, model: ModelLike, count: int, *, format: Literal["uint8"], **options: Unpack[StreamOptions]
    ) -> SampleStream[NDArray[np.uint8]]: ...
    @overload
    def stream_samples(
        self,
        model: ModelLike,
        count: int,
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[StreamOptions],
    ) -> SampleStream[list[bytes]]: ...
    def stream_samples(
        self,
        model: ModelLike,
        count: int,
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        **options: Unpack[StreamOptions],
    ) -> SampleStream[Pictures]:
        """As sample, for any number of images, which come in chunks while the stream is read.

        The `timeout` is that of one chunk, not of the whole. A stream that breaks is resumed where it stood.
        """
        exchange = _exchanges.stream_samples(model, count, format=format, grid_columns=grid_columns, **options)
        return SampleStream(self._generation.StreamSamples, exchange, self._begin(exchange), self._link)
