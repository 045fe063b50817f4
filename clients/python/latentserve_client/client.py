"""The blocking client. Arguments and replies are `_requests` and `_replies`', the channel is `_connection`'s."""

from __future__ import annotations

from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import models_pb2
from latentserve_client import _replies, _requests
from latentserve_client._drawing import Drawing
from latentserve_client._walking import Walking
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


class Client(Drawing, Walking):
    """Calls a latentserve server. Threads may share one; it holds one channel for all of them.

    Every call also takes the CallOptions `timeout` and `request_id`. A call that the server could not take
    (UNAVAILABLE) is tried again, four times in all and within its timeout. Every call that returns images takes
    `format`, and with a file format `grid_columns`: all images of the reply as one file, so many columns of them.

    Args:
        target: the server's address as gRPC writes it: "host:port", or "dns:///host:port" for every replica of a name.
        timeout: seconds that a call may take, retries included, or that a stream may take for one chunk.
        credentials: for TLS; without them the connection is in plain text.
        channel: a channel of the caller's own, used as it is and left open by close(), instead of target and
            credentials. CHANNEL_OPTIONS are the options that it would have had.

    Raises:
        RequestError: from any call, for arguments that no server would accept; nothing was sent.
        CallError: from any call, as the class that fits the status.
        ReplyError: from any call, for a reply that breaks the contract.
        ClosedError: from any call after close().
    """

    def models(self, **call: Unpack[CallOptions]) -> list[ModelStatus]:
        """Every version of every model, served or not, by name, then version."""
        response, _ = self._call("ListModels", self._models.ListModels, models_pb2.ListModelsRequest(), **call)
        return _replies.parse_models(response)

    def model(
        self, name: ModelLike, version: int | None = None, alias: str | None = None, **call: Unpack[CallOptions]
    ) -> ModelInfo:
        """The READY version that `name` stands for, or that `version` or `alias` picks."""
        request = _requests.build_get_model(name, version, alias)
        response, _ = self._call("GetModel", self._models.GetModel, request, **call)
        return _replies.parse_model(response)

    def encode(
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
        """The posterior of each image; with `draw_seed` also a latent drawn from each.

        Row i's draw uses the noise at first_index + i of the seed.
        """
        request = _requests.build_encode(
            model, images, draw_seed=draw_seed, first_index=first_index, resize=resize, priority=priority, labels=labels
        )
        response, request_id = self._call("Encode", self._generation.Encode, request, **call)
        return _replies.parse_encode(request, response, request_id)

    @overload
    def decode(
        self,
        model: ModelLike,
        latents: LatentsLike,
        *,
        format: Literal["float32"] = ...,
        **options: Unpack[GenerationOptions],
    ) -> Decoded[NDArray[np.float32]]: ...
    @overload
    def decode(
        self,
        model: ModelLike,
        latents: LatentsLike,
        *,
        format: Literal["float16"],
        **options: Unpack[GenerationOptions],
    ) -> Decoded[NDArray[np.float16]]: ...
    @overload
    def decode(
        self, model: ModelLike, latents: LatentsLike, *, format: Literal["uint8"], **options: Unpack[GenerationOptions]
    ) -> Decoded[NDArray[np.uint8]]: ...
    @overload
    def decode(
        self,
        model: ModelLike,
        latents: LatentsLike,
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[GenerationOptions],
    ) -> Decoded[list[bytes]]: ...
    def decode(
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
        """The image of each latent: for a VAE the mean of p(x|z), for a GAN the generator's image."""
        request = _requests.build_decode(
            model,
            latents,
            format=format,
            grid_columns=grid_columns,
            priority=priority,
            labels=labels,
        )
        response, request_id = self._call("Decode", self._generation.Decode, request, **call)
        return _replies.parse_decode(request, response, request_id)

    @overload
    def reconstruct(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        format: Literal["float32"] = ...,
        **options: Unpack[ReconstructOptions],
    ) -> Reconstruction[NDArray[np.float32]]: ...
    @overload
    def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["float16"], **options: Unpack[ReconstructOptions]
    ) -> Reconstruction[NDArray[np.float16]]: ...
    @overload
    def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["uint8"], **options: Unpack[ReconstructOptions]
    ) -> Reconstruction[NDArray[np.uint8]]: ...
    @overload
    def reconstruct(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[ReconstructOptions],
    ) -> Reconstruction[list[bytes]]: ...
    def reconstruct(
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
        """Each image encoded and its posterior mean decoded, with what was lost on the way, in nats."""
        request = _requests.build_reconstruct(
            model,
            images,
            resize=resize,
            format=format,
            grid_columns=grid_columns,
            priority=priority,
            labels=labels,
        )
        response, request_id = self._call("Reconstruct", self._generation.Reconstruct, request, **call)
        return _replies.parse_reconstruct(request, response, request_id)

    def score(
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
        """How well the model explains each image, in nats: at the posterior mean or, with `draws`, over so many draws.

        Draw j of image i uses the noise at (first_index + i) * draws + j of the seed, which is 0 unless given: scores
        are the same every time unless asked otherwise.
        """
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
        response, request_id = self._call("Score", self._generation.Score, request, **call)
        return _replies.parse_score(request, response, request_id)
