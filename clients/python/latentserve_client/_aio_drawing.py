"""The asyncio calls that draw from the prior."""

from __future__ import annotations

from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from latentserve_client import _replies, _requests
from latentserve_client._aio_connection import AsyncConnection
from latentserve_client.aio_sample_stream import AsyncSampleStream
from latentserve_client.model_ref import ModelLike
from latentserve_client.options import (
    CallOptions,
    FileFormat,
    Format,
    LabelsLike,
    Pictures,
    Prior,
    Priority,
    SampleOptions,
    StreamOptions,
)
from latentserve_client.results import Samples


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
        seed: int | None = None,
        first_index: int = 0,
        temperature: float | None = None,
        truncation: float | None = None,
        prior: Prior | None = None,
        priority: Priority | None = None,
        labels: LabelsLike | None = None,
        **call: Unpack[CallOptions],
    ) -> Samples[Pictures]:
        """As Client.sample."""
        request = _requests.build_sample(
            model,
            count,
            seed=seed,
            first_index=first_index,
            temperature=temperature,
            truncation=truncation,
            prior=prior,
            format=format,
            grid_columns=grid_columns,
            priority=priority,
            labels=labels,
        )
        response, request_id = await self._call("Sample", self._generation.Sample, request, **call)
        return _replies.parse_sample(request, response, request_id)

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
        seed: int | None = None,
        first_index: int = 0,
        chunk_rows: int | None = None,
        temperature: float | None = None,
        truncation: float | None = None,
        prior: Prior | None = None,
        priority: Priority | None = None,
        labels: LabelsLike | None = None,
        **call: Unpack[CallOptions],
    ) -> AsyncSampleStream[Pictures]:
        """As Client.stream_samples."""
        request = _requests.build_stream(
            model,
            count,
            seed=seed,
            first_index=first_index,
            chunk_rows=chunk_rows,
            temperature=temperature,
            truncation=truncation,
            prior=prior,
            format=format,
            grid_columns=grid_columns,
            priority=priority,
            labels=labels,
        )
        return self._stream(request, **call)
