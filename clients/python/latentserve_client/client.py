"""The blocking client. What a call sends and means is `_exchanges`', the channel is `_connection`'s."""

from __future__ import annotations

from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from latentserve_client._calls import generation as _exchanges
from latentserve_client._drawing import Drawing
from latentserve_client._walking import Walking
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


class Client(Drawing, Walking):
    """Calls a latentserve server. Threads may share one; it holds one channel for all of them.

    What a call takes as `options` stands with their class, in `latentserve_client.options`; every call takes the
    CallOptions `timeout` and `request_id`. A call that the server could not take (UNAVAILABLE) is tried again, four
    times in all and within its timeout. Once there was an answer, calls wait within their timeout while there is no
    connection. Every call that returns images takes `format`, and with a file format
    `grid_columns`: all images of the reply as one file, so many columns of them.

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
        return self._run(self._models.ListModels, _exchanges.models(**call))

    def model(
        self, name: ModelLike, version: int | None = None, alias: str | None = None, **call: Unpack[CallOptions]
    ) -> ModelInfo:
        """The READY version that `name` stands for, or that `version` or `alias` picks."""
        return self._run(self._models.GetModel, _exchanges.model(name, version, alias, **call))

    def encode(self, model: ModelLike, images: ImagesLike, **options: Unpack[EncodeOptions]) -> Posterior:
        """The posterior of each image; with `draw_seed` also a latent drawn from each.

        Row i's draw uses the noise at first_index + i of the seed.
        """
        return self._run(self._generation.Encode, _exchanges.encode(model, images, **options))

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
        **options: Unpack[GenerationOptions],
    ) -> Decoded[Pictures]:
        """The image of each latent: for a VAE the mean of p(x|z), for a GAN the generator's image."""
        exchange = _exchanges.decode(model, latents, format=format, grid_columns=grid_columns, **options)
        return self._run(self._generation.Decode, exchange)

    @overload
    def reconstruct(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        format: Literal["float32"] = ...,
        **options: Unpack[ImageOptions],
    ) -> Reconstruction[NDArray[np.float32]]: ...
    @overload
    def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["float16"], **options: Unpack[ImageOptions]
    ) -> Reconstruction[NDArray[np.float16]]: ...
    @overload
    def reconstruct(
        self, model: ModelLike, images: ImagesLike, *, format: Literal["uint8"], **options: Unpack[ImageOptions]
    ) -> Reconstruction[NDArray[np.uint8]]: ...
    @overload
    def reconstruct(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[ImageOptions],
    ) -> Reconstruction[list[bytes]]: ...
    def reconstruct(
        self,
        model: ModelLike,
        images: ImagesLike,
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        **options: Unpack[ImageOptions],
    ) -> Reconstruction[Pictures]:
        """Each image encoded and its posterior mean decoded, with what was lost on the way, in nats."""
        exchange = _exchanges.reconstruct(model, images, format=format, grid_columns=grid_columns, **options)
        return self._run(self._generation.Reconstruct, exchange)

    def score(self, model: ModelLike, images: ImagesLike, **options: Unpack[ScoreOptions]) -> Scores:
        """How well the model explains each image, in nats: at the posterior mean or, with `draws`, over so many draws.

        Draw j of image i uses the noise at (first_index + i) * draws + j of the seed, which is 0 unless given: scores
        are the same every time unless asked otherwise.
        """
        return self._run(self._generation.Score, _exchanges.score(model, images, **options))
