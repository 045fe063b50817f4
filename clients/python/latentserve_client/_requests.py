"""Arguments to request messages. Pure functions, shared by the two clients."""

from __future__ import annotations

from latentserve.v1 import generation_pb2, models_pb2
from latentserve_client._fields import (
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
from latentserve_client._payload import (
    build_images,
    build_latents,
    build_output,
    count_images,
)
from latentserve_client.errors import RequestError
from latentserve_client.inputs import ImagesLike, LatentsLike
from latentserve_client.model_ref import ModelLike, ModelRef
from latentserve_client.options import Format, LabelsLike, Prior, Priority


def build_get_model(model: ModelLike, version: int | None, alias: str | None) -> models_pb2.GetModelRequest:
    """The request that describes `model`, whose version stands in the text or in the arguments, not in both."""
    ref = parse_ref(model)
    if version is not None or alias is not None:
        if ref.version is not None or ref.alias is not None:
            raise RequestError(f"model {str(ref)!r} already says which version; give none besides")
        ref = ModelRef(ref.name, version, alias)
    return models_pb2.GetModelRequest(model=build_ref(ref))


def build_sample(
    model: ModelLike,
    count: int,
    *,
    seed: int | None,
    first_index: int,
    temperature: float | None,
    truncation: float | None,
    prior: Prior | None,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None,
    labels: LabelsLike | None,
) -> generation_pb2.SampleRequest:
    """The request for rows first_index to first_index + count - 1 of the seed, drawn here where none is given."""
    count = integer("count", count, 1, MAX_UINT32)
    return generation_pb2.SampleRequest(
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


def build_stream(
    model: ModelLike,
    count: int,
    *,
    seed: int | None,
    first_index: int,
    chunk_rows: int | None,
    temperature: float | None,
    truncation: float | None,
    prior: Prior | None,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None,
    labels: LabelsLike | None,
) -> generation_pb2.StreamSamplesRequest:
    """As build_sample, for any number of rows in chunks of `chunk_rows`, which the server chooses where None."""
    count = integer("count", count, 1, MAX_INDEX)
    if grid_columns is not None and chunk_rows is None:
        raise RequestError("grid_columns makes one picture of each chunk; give chunk_rows too")
    return generation_pb2.StreamSamplesRequest(
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


def build_encode(
    model: ModelLike,
    images: ImagesLike,
    *,
    draw_seed: int | None,
    first_index: int,
    resize: bool,
    priority: Priority | None,
    labels: LabelsLike | None,
) -> generation_pb2.EncodeRequest:
    """The request for the posteriors of `images` and, with a seed, for one draw from each."""
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
    return request


def build_decode(
    model: ModelLike,
    latents: LatentsLike,
    *,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None,
    labels: LabelsLike | None,
) -> generation_pb2.DecodeRequest:
    """The request for the images of `latents`."""
    return generation_pb2.DecodeRequest(
        model=build_ref(model),
        latents=build_latents("latents", latents),
        output=build_output(format, grid_columns),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )


def build_reconstruct(
    model: ModelLike,
    images: ImagesLike,
    *,
    resize: bool,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None,
    labels: LabelsLike | None,
) -> generation_pb2.ReconstructRequest:
    """The request for the reconstructions of `images`."""
    return generation_pb2.ReconstructRequest(
        model=build_ref(model),
        images=build_images(images, resize=resize),
        output=build_output(format, grid_columns),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )


def build_score(
    model: ModelLike,
    images: ImagesLike,
    *,
    draws: int,
    seed: int | None,
    first_index: int,
    resize: bool,
    priority: Priority | None,
    labels: LabelsLike | None,
) -> generation_pb2.ScoreRequest:
    """The request for the scores of `images`; without a seed the server takes 0, and not one drawn at random."""
    pictures = build_images(images, resize=resize)
    draws = integer("draws", draws, 0, MAX_UINT32)
    return generation_pb2.ScoreRequest(
        model=build_ref(model),
        images=pictures,
        draws=draws,
        seed=None if seed is None else integer("seed", seed, 0, MAX_SEED),
        first_index=integer("first_index", first_index, 0, MAX_INDEX // max(1, draws) - count_images(pictures)),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
