"""Requests: the model that they name, and GenerationService's, checked and as the model takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentserve.contract import MAX_LABELS, MAX_NAME_CHARACTERS
from latentserve.seed import draw_seed
from latentserve.v1 import bundle_pb2, models_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.api.image_files import FILE_FORMATS, check_wanted
from latentserve_server.api.images import check_images, check_latents
from latentserve_server.batching.scheduling import NEVER, WHENEVER, Scheduling
from latentserve_server.errors import InvalidArgument
from latentserve_server.latent.labels import NO_LABELS, Labels
from latentserve_server.latent.noise import check_indices
from latentserve_server.latent.prior import AS_THEY_ARE, NoiseTransform, SamplingSpec
from latentserve_server.model.requests import (
    FLOAT32_PIXELS,
    UINT8_PIXELS,
    DecodeRequest,
    EncodeRequest,
    PosteriorDraw,
    ReconstructRequest,
    SampleRequest,
    ScoreRequest,
)
from latentserve_server.model.served_model import ServedModel
from latentserve_server.repository.repository import Repository
from latentserve_server.wire.exchange import Exchange

LabelledRequest = (
    pb.SampleRequest
    | pb.StreamSamplesRequest
    | pb.EncodeRequest
    | pb.DecodeRequest
    | pb.ReconstructRequest
    | pb.InterpolateRequest
    | pb.TraverseRequest
    | pb.ScoreRequest
)

_CHUNK_BYTES = 1 << 20
"""What a chunk of a stream holds where the caller does not say, as float32 images: large enough to make the cost of a
message small, and small enough to arrive soon."""

_FORMS: Mapping[int, str] = {
    pb.IMAGE_FORMAT_UNSPECIFIED: FLOAT32_PIXELS,
    pb.IMAGE_FORMAT_FLOAT32: FLOAT32_PIXELS,
    pb.IMAGE_FORMAT_FLOAT16: FLOAT32_PIXELS,
    pb.IMAGE_FORMAT_UINT8: UINT8_PIXELS,
    **dict.fromkeys(FILE_FORMATS, UINT8_PIXELS),
}
"""The decoder's output that has each wanted form, or what is made into it."""

_PRIORITIES = frozenset(pb.Priority.values())
_PRIORS = frozenset(bundle_pb2.Prior.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamRequest:
    """Rows of a seed's images, so many a chunk."""

    chunk_rows: int
    sample: SampleRequest
    """All rows."""


def sample_request(request: pb.SampleRequest, model: ServedModel, context: Exchange) -> SampleRequest:
    """What a Sample asks for.

    Raises:
        InvalidArgument: a field is out of bounds. CapabilityMissing: the model has no such prior.
    """
    count = request.count
    form = form_of(request.output, count, model.image)
    model.check_rows("count", count)
    return _sample_request(request, form, model, context, request.priority)


def stream_request(request: pb.StreamSamplesRequest, model: ServedModel, context: Exchange) -> StreamRequest:
    """What a StreamSamples asks for; unless it says otherwise, as bulk work.

    Raises:
        InvalidArgument: a field is out of bounds. CapabilityMissing: the model has no such prior.
    """
    rows = _chunk_rows(request, model)
    form = form_of(request.output, rows, model.image)
    sample = _sample_request(request, form, model, context, request.priority or pb.PRIORITY_BULK)
    patient = sample.scheduling._replace(is_patient=True)
    return StreamRequest(chunk_rows=rows, sample=sample._replace(scheduling=patient))


def encode_request(request: pb.EncodeRequest, model: ServedModel, context: Exchange) -> EncodeRequest:
    """What an Encode asks for.

    Raises:
        CapabilityMissing: the model has no encoder. InvalidArgument: a field is out of bounds.
    """
    model.abilities.check(models_pb2.CAPABILITY_ENCODE)
    rows = check_images("images", request.images, model)
    draw = None
    if request.HasField("draw"):
        model.abilities.check_posterior("draw")
        check_indices("draw.first_index", request.draw.first_index, rows)
        draw = PosteriorDraw(seed=_seed(request.draw), first_index=request.draw.first_index)
    return EncodeRequest(
        draw=draw, labels=labels_of(request, model, rows), scheduling=scheduling_of(context, request.priority)
    )


def decode_request(request: pb.DecodeRequest, model: ServedModel, context: Exchange) -> DecodeRequest:
    """What a Decode asks for.

    Raises:
        InvalidArgument: a field is out of bounds.
    """
    rows = check_latents("latents", request.latents, model)
    form = form_of(request.output, rows, model.image)
    labels = labels_of(request, model, rows)
    return DecodeRequest(form=form, labels=labels, scheduling=scheduling_of(context, request.priority))


def reconstruct_request(request: pb.ReconstructRequest, model: ServedModel, context: Exchange) -> ReconstructRequest:
    """What a Reconstruct asks for.

    Raises:
        CapabilityMissing: the model has no encoder. InvalidArgument: a field is out of bounds.
    """
    model.abilities.check(models_pb2.CAPABILITY_RECONSTRUCT)
    rows = check_images("images", request.images, model)
    form = form_of(request.output, rows, model.image)
    labels = labels_of(request, model, rows)
    return ReconstructRequest(form=form, labels=labels, scheduling=scheduling_of(context, request.priority))


def score_request(request: pb.ScoreRequest, model: ServedModel, context: Exchange) -> ScoreRequest:
    """What a Score asks for.

    Raises:
        CapabilityMissing: the model has no encoder. InvalidArgument: a field is out of bounds.
    """
    model.abilities.check(models_pb2.CAPABILITY_SCORE)
    if request.draws:
        model.abilities.check_posterior("draws")
    images, draws = check_images("images", request.images, model), max(1, request.draws)
    model.check_rows("images * draws", images * draws)
    check_indices("first_index", request.first_index * draws, images * draws)
    return ScoreRequest(
        draws=request.draws,
        seed=request.seed,
        first_index=request.first_index,
        labels=labels_of(request, model, images),
        scheduling=scheduling_of(context, request.priority),
        map_form=_map_form(request.map, images, model) if request.HasField("map") else None,
    )


def _map_form(output: pb.Output, images: int, model: ServedModel) -> str:
    if output.bands:
        raise InvalidArgument("map.bands", "are of images; pictures of a map are grey, the sum over channels")
    grey = bundle_pb2.ImageSpec(channels=1, height=model.image.height, width=model.image.width)
    return form_of(output, images, grey, "map")


def _sample_request(
    request: pb.SampleRequest | pb.StreamSamplesRequest,
    form: str,
    model: ServedModel,
    context: Exchange,
    priority: pb.Priority,
) -> SampleRequest:
    sampling, first_index, count = _sampling(request, model), request.first_index, request.count
    psi = _psi(request.shaping, model) if request.HasField("shaping") else None
    check_indices("first_index", first_index, count)
    return SampleRequest(
        count,
        _seed(request),
        first_index,
        form,
        sampling,
        labels_of(request, model),
        scheduling_of(context, priority),
        psi,
    )


def _seed(message: pb.SampleRequest | pb.StreamSamplesRequest | pb.Draw) -> int:
    """The seed, drawn where the caller gave none."""
    return message.seed if message.HasField("seed") else draw_seed()


def _sampling(request: pb.SampleRequest | pb.StreamSamplesRequest, model: ServedModel) -> SamplingSpec:
    """What is to be drawn from, and what is to be done to the noise."""
    if request.prior not in _PRIORS:
        raise InvalidArgument("prior", f"{request.prior} is not one of {', '.join(bundle_pb2.Prior.keys())}")
    prior, shaping = model.abilities.prior_for(request.prior), request.shaping
    if not (shaping.HasField("temperature") or shaping.HasField("truncation")):
        return AS_THEY_ARE[prior]
    return SamplingSpec(
        prior,
        NoiseTransform(
            temperature=shaping.temperature if shaping.HasField("temperature") else 1.0,
            truncation=shaping.truncation if shaping.HasField("truncation") else None,
        ),
    )


def _psi(shaping: pb.Shaping, model: ServedModel) -> float | None:
    """The psi that is wanted of the decoder, if any."""
    if not shaping.HasField("psi"):
        return None
    if model.psi is None:
        raise InvalidArgument("shaping.psi", "the model's decoder takes none")
    model.psi.check("shaping.psi", np.asarray(shaping.psi, np.float32))
    return shaping.psi


def form_of(output: pb.Output, rows: int, spec: bundle_pb2.ImageSpec, field: str = "output") -> str:
    """The decoder's output that has the form wanted of `rows` images, or what is made into it; `field` is for errors.

    Raises:
        InvalidArgument: there is no such format, it cannot be made of the model's images, or something is asked of
            tensors that is of pictures. Where there are no rows, nothing is said of a grid.
    """
    form = _FORMS.get(output.format)
    if form is None:
        known = ", ".join(pb.ImageFormat.keys())
        raise InvalidArgument(f"{field}.format", f"{output.format} is not one of {known}")
    if output.format in FILE_FORMATS:
        check_wanted(output, rows, spec, field)
    elif output.bands:
        raise InvalidArgument(f"{field}.bands", "are of pictures: the format must be PNG, JPEG or WebP")
    elif output.grid_columns and rows:
        raise InvalidArgument(f"{field}.grid_columns", "a grid is a picture: the format must be PNG, JPEG or WebP")
    return form


def labels_of(request: LabelledRequest, model: ServedModel, rows: int | None = None) -> Labels:
    """The labels of the request's rows: one, or one for each of so many.

    Raises:
        InvalidArgument: there are too many or too few, or the model has no labels, or not one of these.
    """
    if not model.known_labels and not request.labels:
        return NO_LABELS
    most = max(MAX_LABELS, model.limits.max_rows_per_request)
    if len(request.labels) > most:
        raise InvalidArgument("labels", f"{len(request.labels)} labels; at most {most} are allowed")
    labels = Labels(tuple(request.labels), model.known_labels)
    if rows is not None:
        labels.check_rows(rows)
    return labels


def _chunk_rows(request: pb.StreamSamplesRequest, model: ServedModel) -> int:
    """The rows of a chunk: what the caller says, else about a mebibyte of whole batches."""
    if not request.count:
        raise InvalidArgument("count", "0 rows; at least 1 is needed")
    if request.chunk_rows:
        model.check_rows("chunk_rows", request.chunk_rows)
        return request.chunk_rows
    image, batch = model.image, model.limits.max_batch_rows
    row_bytes = 4 * image.channels * image.height * image.width
    batches = max(1, _CHUNK_BYTES // row_bytes // batch)
    return min(batches * batch, model.limits.max_rows_per_request)


def scheduling_of(context: Exchange, priority: pb.Priority) -> Scheduling:
    """The call's deadline and priority.

    Raises:
        InvalidArgument: there is no such priority.
    """
    if priority not in _PRIORITIES:
        raise InvalidArgument("priority", f"{priority} is not one of {', '.join(pb.Priority.keys())}")
    if context.deadline == NEVER and priority != pb.PRIORITY_BULK and context.allowance is None:
        return WHENEVER
    return Scheduling(context.deadline, priority == pb.PRIORITY_BULK, context.allowance)


def model_of(request: Any, is_model: Callable[[str], bool]) -> str:
    """The model that a request is for; empty where it is for none, or for none of the repository's."""
    name = str(getattr(getattr(request, "model", request), "name", ""))
    return name if is_model(name) else ""


def model_named(repository: Repository, ref: pb.ModelRef) -> ServedModel:
    """The model that a request names; a block around it is a lease, which a call that it answers needs.

    Raises:
        InvalidArgument: the reference is malformed. ModelNotFound, ModelNotReady: as the repository says.
    """
    version, alias = _selector(ref)
    return repository.get(ref.name, version, alias)


def _selector(ref: pb.ModelRef) -> tuple[int | None, str | None]:
    """The version and the alias that a reference, which is well formed, selects by."""
    name = ref.name
    if not name:
        raise InvalidArgument("model.name", "is empty; name a model")
    _check_length("name", name)
    match ref.WhichOneof("selector"):
        case None:
            return None, None
        case "version":
            if ref.version < 1:
                raise InvalidArgument("model.version", f"{ref.version}; versions are at least 1")
            return ref.version, None
        case _:
            _check_length("alias", ref.alias)
            return None, ref.alias


def _check_length(field: str, value: str) -> None:
    if len(value) > MAX_NAME_CHARACTERS:  # errors repeat it, and a status holds no more than a few kilobytes
        raise InvalidArgument(f"model.{field}", f"is over {MAX_NAME_CHARACTERS} characters long")
