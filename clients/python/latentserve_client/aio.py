"""The asyncio client: what Client has, awaited. Arguments and replies are `_requests` and `_replies`'."""

from __future__ import annotations

from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import models_pb2
from latentserve_client import _replies, _requests
from latentserve_client._aio_drawing import AsyncDrawing
from latentserve_client._aio_walking import AsyncWalking
from latentserve_client.inputs import ImagesLike, LatentsLike
from latentserve_client.model_info import ModelInfo, ModelStatus
from latentserve_client.model_ref import ModelLike
from latentserve_client.options import (
    CallOptions,
    FileFormat,
    Format,
    GenerationOptions,
    LabelsLike,
    Pictures,
    Priority,
    ReconstructOptions,
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
        response, _ = await self._call("ListModels", self._models.ListModels, models_pb2.ListModelsRequest(), **call)
        return _replies.parse_models(response)

    async def model(
        self, name: ModelLike, version: int | None = None, alias: str | None = None, **call: Unpack[CallOptions]
    ) -> ModelInfo:
        """As Client.model."""
        request = _requests.build_get_model(name, version, alias)
        response, _ = await self._call("GetModel", self._models.GetModel, request, **call)
        return _replies.parse_model(response)

    async def encode(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        draw_seed: int | None = None,
        first_index: int = 0,
        resize: bool = False,
        priority: Priority | None = None,
        labels: LabelsLike | None = None,
        **call: Unpack[CallOptions],
    ) -> Posterior:
        """As Client.encode."""
        request = _requests.build_encode(
            model, images, draw_seed=draw_seed, first_index=first_index, resize=resize, priority=priority, labels=labels
        )
        response, request_id = await self._call("Encode", self._generation.Encode, request, **call)
        return _replies.parse_encode(request, response, request_id)

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
        priority: Priority | None = None,
        labels: LabelsLike | None = None,
        **call: Unpack[CallOptions],
    ) -> Decoded[Pictures]:
        """As Client.decode."""
        request = _requests.build_decode(
            model,
            latents,
            format=format,
            grid_columns=grid_columns,
            priority=priority,
            labels=labels,
        )
        response, request_id = await self._call("Decode", self._generation.Decode, request, **call)
        return _replies.parse_decode(request, response, request_id)

    @overload
    async def reconstruct(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        format: Literal["float32"] = ...,
        **options: Unpack[ReconstructOptions],
    ) -> Reconstruction[NDArray[np.float32]]: ...
    @overload
    async def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["float16"], **options: Unpack[ReconstructOptions]
    ) -> Reconstruction[NDArray[np.float16]]: ...
    @overload
    async def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["uint8"], **options: Unpack[ReconstructOptions]
    ) -> Reconstruction[NDArray[np.uint8]]: ...
    @overload
    async def reconstruct(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[ReconstructOptions],
    ) -> Reconstruction[list[bytes]]: ...
    async def reconstruct(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        resize: bool = False,
        priority: Priority | None = None,
        labels: LabelsLike | None = None,
        **call: Unpack[CallOptions],
    ) -> Reconstruction[Pictures]:
        """As Client.reconstruct."""
        request = _requests.build_reconstruct(
            model,
            images,
            resize=resize,
            format=format,
            grid_columns=grid_columns,
            priority=priority,
            labels=labels,
        )
        response, request_id = await self._call("Reconstruct", self._generation.Reconstruct, request, **call)
        return _replies.parse_reconstruct(request, response, request_id)

    async def score(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        draws: int = 0,
        seed: int | None = None,
        first_index: int = 0,
        resize: bool = False,
        priority: Priority | None = None,
        labels: LabelsLike | None = None,
        **call: Unpack[CallOptions],
    ) -> Scores:
        """As Client.score."""
        request = _requests.build_score(
            model,
            images,
            draws=draws,
            seed=seed,
            first_index=first_index,
            resize=resize,
            priority=priority,
            labels=labels,
        )
        response, request_id = await self._call("Score", self._generation.Score, request, **call)
        return _replies.parse_score(request, response, request_id)
