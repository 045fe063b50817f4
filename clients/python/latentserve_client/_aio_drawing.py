"""The asyncio calls that draw from the prior."""

from __future__ import annotations

from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from latentserve_client._calls import generation as _exchanges
from latentserve_client._transport.connection import AsyncConnection
from latentserve_client.models import ModelLike
from latentserve_client.options import FileFormat, Format, Pictures, SampleOptions, StreamOptions
from latentserve_client.results import Samples
from latentserve_client.stream import AsyncSampleStream


class AsyncDrawing(AsyncConnection):
    """Calls that draw from the prior."""

    @overload
    async def sample(
        self, model: ModelLike, count: int, *, format: Literal["float32"] = ..., **options: Unpack[SampleOptions]
    ) -> Samples[NDArray[np.float32]]: ...
    @overload
    async def sample(
        self, model: ModelLike, count: int, *, format: Literal["float16"], **options: Unpack[SampleOptions]
    ) -> Samples[NDArray[np.float16]]: ...
    @overload
    async def sample(
        self, model: ModelLike, count: int, *, format: Literal["uint8"], **options: Unpack[SampleOptions]
    ) -> Samples[NDArray[np.uint8]]: ...
    @overload
    async def sample(
        self,
        model: ModelLike,
        count: int,
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[SampleOptions],
    ) -> Samples[list[bytes]]: ...
    async def sample(
        self,
        model: ModelLike,
        count: int,
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        **options: Unpack[SampleOptions],
    ) -> Samples[Pictures]:
        """As Client.sample."""
        exchange = _exchanges.sample(model, count, format=format, grid_columns=grid_columns, **options)
        return await self._run(self._generation.Sample, exchange)

    @overload
    def stream_samples(
        self, model: ModelLike, count: int, *, format: Literal["float32"] = ..., **options: Unpack[StreamOptions]
    ) -> AsyncSampleStream[NDArray[np.float32]]: ...
    @overload
    def stream_samples(
        self, model: ModelLike, count: int, *, format: Literal["float16"], **options: Unpack[StreamOptions]
    ) -> AsyncSampleStream[NDArray[np.float16]]: ...
    @overload
    def stream_samples(
        self, model: ModelLike, count: int, *, format: Literal["uint8"], **options: Unpack[StreamOptions]
    ) -> AsyncSampleStream[NDArray[np.uint8]]: ...
    @overload
    def stream_samples(
        self,
        model: ModelLike,
        count: int,
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[StreamOptions],
    ) -> AsyncSampleStream[list[bytes]]: ...
    def stream_samples(
        self,
        model: ModelLike,
        count: int,
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        **options: Unpack[StreamOptions],
    ) -> AsyncSampleStream[Pictures]:
        """As Client.stream_samples."""
        exchange = _exchanges.stream_samples(model, count, format=format, grid_columns=grid_columns, **options)
        return AsyncSampleStream(self._generation.StreamSamples, exchange, self._begin(exchange), self._link)
