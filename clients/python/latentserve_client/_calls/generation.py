"""Arguments to exchanges. One pure function a call, named after the method of the two clients that makes it."""

from __future__ import annotations

from latentserve.v1 import generation_pb2, models_pb2
from latentserve_client._calls import replies as _replies
from latentserve_client._calls.exchange import Exchange
from latentserve_client._calls.fields import (
    MAX_INDEX,
    MAX_SEED,
    MAX_UINT32,
    build_labels,
    build_prior,
    build_priority,
    build_ref,
    build_seed,
    build_shaping,
    integer,
    parse_ref,
)
from latentserve_client._calls.payload import build_images, build_latents, build_output, count_images
from latentserve_client._calls.resumption import ChunkExchange
from latentserve_client.errors import RequestError
from latentserve_client.inputs import ImagesLike, LatentsLike
from latentserve_client.models import ModelInfo, ModelLike, ModelRef, ModelStatus
from latentserve_client.options import Format, LabelsLike, Pictures, Prior, Priority
from latentserve_client.results import Decoded, Posterior, Reconstruction, Samples, Scores


def models(
    *, timeout: float | None = None, request_id: str | None = None
) -> Exchange[models_pb2.ListModelsRequest, models_pb2.ListModelsResponse, list[ModelStatus]]:
    """Every version of every model."""
    return Exchange("ListModels", models_pb2.ListModelsRequest(), _replies.parse_models, timeout, request_id)


def model(
    name: ModelLike,
    version: int | None,
    alias: str | None,
    *,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[models_pb2.GetModelRequest, models_pb2.GetModelResponse, ModelInfo]:
    """The description of `name`, whose version stands in the text or in the arguments, not in both."""
    ref = parse_ref(name)
    if version is not None or alias is not None:
        if ref.version is not None or ref.alias is not None:
            raise RequestError(f"model {str(ref)!r} already says which version; give none besides")
        ref = ModelRef(ref.name, version, alias)
    request = models_pb2.GetModelRequest(model=build_ref(ref))
    return Exchange("GetModel", request, _replies.parse_model, timeout, request_id)


def sample(
    model: ModelLike,
    count: int,
    *,
    seed: int | None = None,
    first_index: int = 0,
    temperature: float | None = None,
    truncation: float | None = None,
    prior: Prior | None = None,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None = None,
    labels: LabelsLike | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[generation_pb2.SampleRequest, generation_pb2.SampleResponse, Samples[Pictures]]:
    """Rows first_index to first_index + count - 1 of the seed, drawn here where none is given."""
    count = integer("count", count, 1, MAX_UINT32)
    request = generation_pb2.SampleRequest(
        model=build_ref(model),
        count=count,
        seed=build_seed("seed", seed),
        first_index=integer("first_index", first_index, 0, MAX_INDEX - count),
        output=build_output(format, grid_columns),
        priority=build_priority(priority),
        labels=build_labels(labels),
        shaping=build_shaping(temperature, truncation),
        prior=build_prior(prior),
    )
    return Exchange("Sample", request, _replies.parse_sample, timeout, request_id)


def stream_samples(
    model: ModelLike,
    count: int,
    *,
    seed: int | None = None,
    first_index: int = 0,
    chunk_rows: int | None = None,
    any_numerics: bool = False,
    temperature: float | None = None,
    truncation: float | None = None,
    prior: Prior | None = None,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None = None,
    labels: LabelsLike | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> ChunkExchange:
    """As sample, for any number of rows in chunks of `chunk_rows`, which the server chooses where None."""
    count = integer("count", count, 1, MAX_INDEX)
    if grid_columns is not None and chunk_rows is None:
        raise RequestError("grid_columns makes one picture of each chunk; give chunk_rows too")
    request = generation_pb2.StreamSamplesRequest(
        model=build_ref(model),
        count=count,
        seed=build_seed("seed", seed),
        first_index=integer("first_index", first_index, 0, MAX_INDEX - count),
        chunk_rows=0 if chunk_rows is None else integer("chunk_rows", chunk_rows, 1, MAX_UINT32),
        output=build_output(format, grid_columns),
        priority=build_priority(priority),
        labels=build_labels(labels),
        shaping=build_shaping(temperature, truncation),
        prior=build_prior(prior),
    )
    return ChunkExchange(request, any_numerics=any_numerics, timeout=timeout, request_id=request_id)


def encode(
    model: ModelLike,
    images: ImagesLike,
    *,
    draw_seed: int | None = None,
    first_index: int = 0,
    resize: bool = False,
    priority: Priority | None = None,
    labels: LabelsLike | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[generation_pb2.EncodeRequest, generation_pb2.EncodeResponse, Posterior]:
    """The posteriors of `images` and, with a seed, for one draw from each."""
    request = generation_pb2.EncodeRequest(
        model=build_ref(model),
        images=build_images(images, resize=resize),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
    if draw_seed is not None:
        request.draw.seed = build_seed("draw_seed", draw_seed)
        request.draw.first_index = integer("first_index", first_index, 0, MAX_INDEX - count_images(request.images))
    elif first_index != 0:
        raise RequestError("first_index is the index of the draws' noise; give draw_seed too")
    return Exchange("Encode", request, _replies.parse_encode, timeout, request_id)


def decode(
    model: ModelLike,
    latents: LatentsLike,
    *,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None = None,
    labels: LabelsLike | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[generation_pb2.DecodeRequest, generation_pb2.DecodeResponse, Decoded[Pictures]]:
    """The images of `latents`."""
    request = generation_pb2.DecodeRequest(
        model=build_ref(model),
        latents=build_latents("latents", latents),
        output=build_output(format, grid_columns),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
    return Exchange("Decode", request, _replies.parse_decode, timeout, request_id)


def reconstruct(
    model: ModelLike,
    images: ImagesLike,
    *,
    resize: bool = False,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None = None,
    labels: LabelsLike | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[generation_pb2.ReconstructRequest, generation_pb2.ReconstructResponse, Reconstruction[Pictures]]:
    """The reconstructions of `images`."""
    request = generation_pb2.ReconstructRequest(
        model=build_ref(model),
        images=build_images(images, resize=resize),
        output=build_output(format, grid_columns),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
    return Exchange("Reconstruct", request, _replies.parse_reconstruct, timeout, request_id)


def score(
    model: ModelLike,
    images: ImagesLike,
    *,
    draws: int = 0,
    seed: int | None = None,
    first_index: int = 0,
    resize: bool = False,
    priority: Priority | None = None,
    labels: LabelsLike | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[generation_pb2.ScoreRequest, generation_pb2.ScoreResponse, Scores]:
    """The scores of `images`; without a seed the server takes 0, and not one drawn at random."""
    pictures = build_images(images, resize=resize)
    draws = integer("draws", draws, 0, MAX_UINT32)
    request = generation_pb2.ScoreRequest(
        model=build_ref(model),
        images=pictures,
        draws=draws,
        seed=None if seed is None else integer("seed", seed, 0, MAX_SEED),
        first_index=integer("first_index", first_index, 0, MAX_INDEX // max(1, draws) - count_images(pictures)),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
    return Exchange("Score", request, _replies.parse_score, timeout, request_id)
