"""The asyncio client: what Client has, awaited. What a call sends and means is `_exchanges`'."""

from __future__ import annotations

from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from latentserve_client._aio_drawing import AsyncDrawing
from latentserve_client._aio_walking import AsyncWalking
from latentserve_client._calls import generation as _exchanges
from latentserve_client.inputs import ImagesLike, LatentsLike
from latentserve_client.models import ModelInfo, ModelLike, ModelStatus
from latentserve_client.options import (
    CallOptions,
    EncodeOptions,
    FileFormat,
    Format,
    GenerationOptions,
    ImageOptions,
    Pictures,
    ScoreOptions,
)
from latentserve_client.results import Decoded, Posterior, Reconstruction, Scores


class AsyncClient(AsyncDrawing, AsyncWalking):
    """`Client` for asyncio: the same arguments, results and errors, awaited.

    To be made and used inside one running event loop; any number of its tasks may share one. Cancelling a task that
    awaits a call cancels the call on the server.

    Args:
        target: as Client's.
        timeout: as Client's, in seconds.
        credentials: as Client's.
        channel: a grpc.aio channel of the caller's own, used as it is and left open by close().
    """

    async def models(self, **call: Unpack[CallOptions]) -> list[ModelStatus]:
        """As Client.models."""
        return await self._run(self._models.ListModels, _exchanges.models(**call))

    async def model(
        self, name: ModelLike, version: int | None = None, alias: str | None = None, **call: Unpack[CallOptions]
    ) -> ModelInfo:
        """As Client.model."""
        return await self._run(self._models.GetModel, _exchanges.model(name, version, alias, **call))

    async def encode(self, model: ModelLike, images: ImagesLike, **options: Unpack[EncodeOptions]) -> Posterior:
        """As Client.encode."""
        return await self._run(self._generation.Encode, _exchanges.encode(model, images, **options))

    @overload
    async def decode(
        self,
        model: ModelLike,
        latents: LatentsLike,
        *,
        format: Literal["float32"] = ...,
        **options: Unpack[GenerationOptions],
    ) -> Decoded[NDArray[np.float32]]: ...
    @overload
    async def decode(
        self,
        model: ModelLike,
        latents: LatentsLike,
        *,
        format: Literal["float16"],
        **options: Unpack[GenerationOptions],
    ) -> Decoded[NDArray[np.float16]]: ...
    @overload
    async def decode(
        self, model: ModelLike, latents: LatentsLike, *, format: Literal["uint8"], **options: Unpack[GenerationOptions]
    ) -> Decoded[NDArray[np.uint8]]: ...
    @overload
    async def decode(
        self,
        model: ModelLike,
        latents: LatentsLike,
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[GenerationOptions],
    ) -> Decoded[list[bytes]]: ...
    async def decode(
        self,
        model: ModelLike,
        latents: LatentsLike,
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Decoded[Pictures]:
        """As Client.decode."""
        exchange = _exchanges.decode(model, latents, format=format, grid_columns=grid_columns, **options)
        return await self._run(self._generation.Decode, exchange)

    @overload
    async def reconstruct(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        format: Literal["float32"] = ...,
        **options: Unpack[ImageOptions],
    ) -> Reconstruction[NDArray[np.float32]]: ...
    @overload
    async def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["float16"], **options: Unpack[ImageOptions]
    ) -> Reconstruction[NDArray[np.float16]]: ...
    @overload
    async def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["uint8"], **options: Unpack[ImageOptions]
    ) -> Reconstruction[NDArray[np.uint8]]: ...
    @overload
    async def reconstruct(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[ImageOptions],
    ) -> Reconstruction[list[bytes]]: ...
    async def reconstruct(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        **options: Unpack[ImageOptions],
    ) -> Reconstruction[Pictures]:
        """As Client.reconstruct."""
        exchange = _exchanges.reconstruct(model, images, format=format, grid_columns=grid_columns, **options)
        return await self._run(self._generation.Reconstruct, exchange)

    async def score(self, model: ModelLike, images: ImagesLike, **options: Unpack[ScoreOptions]) -> Scores:
        """As Client.score."""
        return await self._run(self._generation.Score, _exchanges.score(model, images, **options))
