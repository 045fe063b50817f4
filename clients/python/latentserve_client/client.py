"""The blocking client. Arguments and replies are `_wire`'s; this file holds the channel and makes the calls."""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Self, TypeVar, Unpack, overload

import grpc
import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc
from latentserve_client import _wire
from latentserve_client._call import REQUEST_ID_KEY, build_call, build_timeout, parse_request_id
from latentserve_client._channel import CHANNEL_OPTIONS
from latentserve_client.errors import ClosedError, from_rpc_error
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


class Client:
    """Calls a latentserve server. Threads may share one; it holds one channel for all of them.

    Every call also takes the CallOptions `timeout` and `request_id`. A call that the server could not take
    (UNAVAILABLE) is tried again, four times in all and within its timeout.

    Args:
        target: the server's address as gRPC writes it: "host:port", or "dns:///host:port" for every replica of a name.
        timeout: seconds that a call may take, retries included.
        credentials: for TLS; without them the connection is in plain text.
        channel: a channel of the caller's own, used as it is and left open by close(), instead of target and
            credentials. CHANNEL_OPTIONS are the options that it would have had.

    Raises:
        RequestError: from any call, for arguments that no server would accept; nothing was sent.
        CallError: from any call, as the class that fits the status.
        ReplyError: from any call, for a reply that breaks the contract.
        ClosedError: from any call after close().
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout: float = 30.0,
        credentials: grpc.ChannelCredentials | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        self._timeout = build_timeout(timeout)
        self._owns_channel = channel is None
        if channel is None:
            channel = (
                grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
                if credentials is None
                else grpc.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
            )
        self._channel = channel
        self._generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self._models = models_pb2_grpc.ModelServiceStub(channel)
        self._closed = False

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed

    def close(self) -> None:
        """End the calls in flight, as CancelledError, and the channel. Closing twice is closing once."""
        if not self._closed:
            self._closed = True
            if self._owns_channel:
                self._channel.close()

    def models(self, **call: Unpack[CallOptions]) -> list[ModelStatus]:
        """Every version of every model, served or not, by name, then version."""
        response, _ = self._call("ListModels", self._models.ListModels, models_pb2.ListModelsRequest(), **call)
        return _wire.parse_models(response)

    def model(
        self, name: ModelLike, version: int | None = None, alias: str | None = None, **call: Unpack[CallOptions]
    ) -> ModelInfo:
        """The READY version that `name` stands for, or that `version` or `alias` picks."""
        request = _wire.build_get_model(name, version, alias)
        response, _ = self._call("GetModel", self._models.GetModel, request, **call)
        return _wire.parse_model(response)

    @overload
    def sample(
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
    def sample(
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
    def sample(
        self,
        model: ModelLike,
        count: int,
        *,
        seed: int | None = ...,
        first_index: int = ...,
        format: Literal["png"],
        **call: Unpack[CallOptions],
    ) -> Samples[list[bytes]]: ...
    def sample(
        self,
        model: ModelLike,
        count: int,
        *,
        seed: int | None = None,
        first_index: int = 0,
        format: Format = "float32",
        **call: Unpack[CallOptions],
    ) -> Samples[ImageArray | list[bytes]]:
        """`count` images drawn from the prior: rows first_index to first_index + count - 1 of `seed`'s sequence.

        Without a seed the client draws one, so that a retried call returns the images of the first attempt; the result
        has it. A row depends on seed and index alone, so a long job splits by first_index.
        """
        request = _wire.build_sample(model, count, seed, first_index, format)
        response, request_id = self._call("Sample", self._generation.Sample, request, **call)
        return _wire.parse_sample(request, response, request_id)

    def encode(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        draw_seed: int | None = None,
        first_index: int = 0,
        **call: Unpack[CallOptions],
    ) -> Posterior:
        """The posterior of each image; with `draw_seed` also a latent drawn from each.

        Row i's draw uses the noise at first_index + i of the seed.
        """
        request = _wire.build_encode(model, images, draw_seed, first_index)
        response, request_id = self._call("Encode", self._generation.Encode, request, **call)
        return _wire.parse_encode(request, response, request_id)

    @overload
    def decode(
        self, model: ModelLike, latents: LatentsLike, *, format: Literal["float32"] = ..., **call: Unpack[CallOptions]
    ) -> Decoded[NDArray[np.float32]]: ...
    @overload
    def decode(
        self, model: ModelLike, latents: LatentsLike, *, format: Literal["uint8"], **call: Unpack[CallOptions]
    ) -> Decoded[NDArray[np.uint8]]: ...
    @overload
    def decode(
        self, model: ModelLike, latents: LatentsLike, *, format: Literal["png"], **call: Unpack[CallOptions]
    ) -> Decoded[list[bytes]]: ...
    def decode(
        self, model: ModelLike, latents: LatentsLike, *, format: Format = "float32", **call: Unpack[CallOptions]
    ) -> Decoded[ImageArray | list[bytes]]:
        """The image of each latent: for a VAE the mean of p(x|z), for a GAN the generator's image."""
        request = _wire.build_decode(model, latents, format)
        response, request_id = self._call("Decode", self._generation.Decode, request, **call)
        return _wire.parse_decode(request, response, request_id)

    @overload
    def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["float32"] = ..., **call: Unpack[CallOptions]
    ) -> Reconstruction[NDArray[np.float32]]: ...
    @overload
    def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["uint8"], **call: Unpack[CallOptions]
    ) -> Reconstruction[NDArray[np.uint8]]: ...
    @overload
    def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["png"], **call: Unpack[CallOptions]
    ) -> Reconstruction[list[bytes]]: ...
    def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Format = "float32", **call: Unpack[CallOptions]
    ) -> Reconstruction[ImageArray | list[bytes]]:
        """Each image encoded and its posterior mean decoded, with what was lost on the way, in nats."""
        request = _wire.build_reconstruct(model, images, format)
        response, request_id = self._call("Reconstruct", self._generation.Reconstruct, request, **call)
        return _wire.parse_reconstruct(request, response, request_id)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the client is closed")

    def _call(
        self,
        method: str,
        rpc: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        **options: Unpack[CallOptions],
    ) -> tuple[ResponseT, str]:
        """The reply, and the id under which the server logged the call."""
        self._check_open()
        timeout, sent = build_call(self._timeout, **options)
        try:
            response, call = rpc.with_call(request, timeout=timeout, metadata=((REQUEST_ID_KEY, sent),))
        except grpc.RpcError as error:
            raise from_rpc_error(error, method, parse_request_id(error.trailing_metadata(), sent)) from error
        return response, parse_request_id(call.trailing_metadata(), sent)
