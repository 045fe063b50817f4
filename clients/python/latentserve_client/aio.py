"""The asyncio client. Arguments and replies are `_wire`'s; this file holds the channel and awaits the calls."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Literal, Self, TypeVar, Unpack, overload

import grpc
import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc
from latentserve_client import _wire
from latentserve_client._call import REQUEST_ID_KEY, build_call, build_timeout, parse_request_id
from latentserve_client._channel import CHANNEL_OPTIONS
from latentserve_client.errors import CancelledError, ClosedError, from_rpc_error
from latentserve_client.model_ref import ModelLike
from latentserve_client.types import (
    CallOptions,
    Decoded,
    Format,
    ImageArray,
    ImagesLike,
    LatentsLike,
    ModelInfo,
    ModelStatus,
    Posterior,
    Reconstruction,
    Samples,
)

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class AsyncClient:
    """`Client` for asyncio: the same arguments, results and errors, awaited.

    To be made and used inside one running event loop; any number of its tasks may share one. Cancelling a task that
    awaits a call cancels the call on the server.

    Args:
        target: as Client's.
        timeout: as Client's, in seconds.
        credentials: as Client's.
        channel: a grpc.aio channel of the caller's own, used as it is and left open by close().
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout: float = 30.0,
        credentials: grpc.ChannelCredentials | None = None,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        self._timeout = build_timeout(timeout)
        self._owns_channel = channel is None
        if channel is None:
            channel = (
                grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
                if credentials is None
                else grpc.aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
            )
        self._channel = channel
        self._generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self._models = models_pb2_grpc.ModelServiceStub(channel)
        self._closed = False

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed

    async def close(self) -> None:
        """End the calls in flight, as CancelledError, and the channel. Closing twice is closing once."""
        if not self._closed:
            self._closed = True
            if self._owns_channel:
                await self._channel.close()

    async def models(self, **call: Unpack[CallOptions]) -> list[ModelStatus]:
        """As Client.models."""
        response, _ = await self._call("ListModels", self._models.ListModels, models_pb2.ListModelsRequest(), **call)
        return _wire.parse_models(response)

    async def model(
        self, name: ModelLike, version: int | None = None, alias: str | None = None, **call: Unpack[CallOptions]
    ) -> ModelInfo:
        """As Client.model."""
        request = _wire.build_get_model(name, version, alias)
        response, _ = await self._call("GetModel", self._models.GetModel, request, **call)
        return _wire.parse_model(response)

    @overload
    async def sample(
        self,
        model: ModelLike,
        count: int,
        *,
        seed: int | None = ...,
        first_index: int = ...,
        format: Literal["float32"] = ...,
        **call: Unpack[CallOptions],
    ) -> Samples[NDArray[np.float32]]: ...
    @overload
    async def sample(
        self,
        model: ModelLike,
        count: int,
        *,
        seed: int | None = ...,
        first_index: int = ...,
        format: Literal["uint8"],
        **call: Unpack[CallOptions],
    ) -> Samples[NDArray[np.uint8]]: ...
    @overload
    async def sample(
        self,
        model: ModelLike,
        count: int,
        *,
        seed: int | None = ...,
        first_index: int = ...,
        format: Literal["png"],
        **call: Unpack[CallOptions],
    ) -> Samples[list[bytes]]: ...
    async def sample(
        self,
        model: ModelLike,
        count: int,
        *,
        seed: int | None = None,
        first_index: int = 0,
        format: Format = "float32",
        **call: Unpack[CallOptions],
    ) -> Samples[ImageArray | list[bytes]]:
        """As Client.sample."""
        request = _wire.build_sample(model, count, seed, first_index, format)
        response, request_id = await self._call("Sample", self._generation.Sample, request, **call)
        return _wire.parse_sample(request, response, request_id)

    async def encode(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        draw_seed: int | None = None,
        first_index: int = 0,
        **call: Unpack[CallOptions],
    ) -> Posterior:
        """As Client.encode."""
        request = _wire.build_encode(model, images, draw_seed, first_index)
        response, request_id = await self._call("Encode", self._generation.Encode, request, **call)
        return _wire.parse_encode(request, response, request_id)

    @overload
    async def decode(
        self, model: ModelLike, latents: LatentsLike, *, format: Literal["float32"] = ..., **call: Unpack[CallOptions]
    ) -> Decoded[NDArray[np.float32]]: ...
    @overload
    async def decode(
        self, model: ModelLike, latents: LatentsLike, *, format: Literal["uint8"], **call: Unpack[CallOptions]
    ) -> Decoded[NDArray[np.uint8]]: ...
    @overload
    async def decode(
        self, model: ModelLike, latents: LatentsLike, *, format: Literal["png"], **call: Unpack[CallOptions]
    ) -> Decoded[list[bytes]]: ...
    async def decode(
        self, model: ModelLike, latents: LatentsLike, *, format: Format = "float32", **call: Unpack[CallOptions]
    ) -> Decoded[ImageArray | list[bytes]]:
        """As Client.decode."""
        request = _wire.build_decode(model, latents, format)
        response, request_id = await self._call("Decode", self._generation.Decode, request, **call)
        return _wire.parse_decode(request, response, request_id)

    @overload
    async def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["float32"] = ..., **call: Unpack[CallOptions]
    ) -> Reconstruction[NDArray[np.float32]]: ...
    @overload
    async def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["uint8"], **call: Unpack[CallOptions]
    ) -> Reconstruction[NDArray[np.uint8]]: ...
    @overload
    async def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["png"], **call: Unpack[CallOptions]
    ) -> Reconstruction[list[bytes]]: ...
    async def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Format = "float32", **call: Unpack[CallOptions]
    ) -> Reconstruction[ImageArray | list[bytes]]:
        """As Client.reconstruct."""
        request = _wire.build_reconstruct(model, images, format)
        response, request_id = await self._call("Reconstruct", self._generation.Reconstruct, request, **call)
        return _wire.parse_reconstruct(request, response, request_id)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the client is closed")

    async def _call(
        self,
        method: str,
        rpc: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        **options: Unpack[CallOptions],
    ) -> tuple[ResponseT, str]:
        """The reply, and the id under which the server logged the call."""
        self._check_open()
        timeout, sent = build_call(self._timeout, **options)
        call = rpc(request, timeout=timeout, metadata=((REQUEST_ID_KEY, sent),))
        try:
            response = await call
        except grpc.RpcError as error:
            raise from_rpc_error(error, method, parse_request_id(error.trailing_metadata(), sent)) from error
        except asyncio.CancelledError as error:
            # gRPC says this both when the awaiting task is cancelled, which is the caller's own affair, and when the
            # channel is closed under the call, which the task did not ask for.
            task = asyncio.current_task()
            if not self._closed or task is None or task.cancelling():
                raise
            message = "the client was closed during the call"
            raise CancelledError(grpc.StatusCode.CANCELLED, message, method, sent) from error
        return response, parse_request_id(await call.trailing_metadata(), sent)
