"""GenerationService's requests, checked and as the model takes them."""

from __future__ import annotations

from dataclasses import dataclass

from latentserve.contract import MAX_LABELS
from latentserve.seed import draw_seed
from latentserve.v1 import bundle_pb2, models_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.api.call import CallClock
from latentserve_server.api.image_files import FILE_FORMATS, GAP, MAX_SIDE
from latentserve_server.api.images import check_images, check_latents
from latentserve_server.errors import InvalidArgument
from latentserve_server.latent.labels import NO_LABELS, Labels
from latentserve_server.latent.prior import STANDARD_NORMAL, NoiseTransform, Prior, SamplingSpec, check_indices
from latentserve_server.model.requests import (
    DecodeRequest,
    EncodeRequest,
    PixelForm,
    PosteriorDraw,
    ReconstructRequest,
    SampleRequest,
    ScoreRequest,
)
from latentserve_server.model.served_model import ServedModel

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

_FORMATS = frozenset(pb.ImageFormat.values())
_FLOAT_FORMATS = (pb.IMAGE_FORMAT_UNSPECIFIED, pb.IMAGE_FORMAT_FLOAT32, pb.IMAGE_FORMAT_FLOAT16)
_PRIORS = {
    bundle_pb2.PRIOR_UNSPECIFIED: Prior.STANDARD_NORMAL,
    bundle_pb2.PRIOR_STANDARD_NORMAL: Prior.STANDARD_NORMAL,
    bundle_pb2.PRIOR_MIXTURE: Prior.MIXTURE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamRequest:
    """Rows of a seed's images, so many a chunk."""

    chunk_rows: int
    sample: SampleRequest
    """All rows."""


def sample_request(request: pb.SampleRequest, model: ServedModel, clock: CallClock) -> SampleRequest:
    """What a Sample asks for.

    Raises:
        InvalidArgument: a field is out of bounds. CapabilityMissing: the model has no such prior.
    """
    check_output(request.output, request.count, model.manifest.image)
    model.check_rows("count", request.count)
    return _sample_request(request, model, clock, request.priority)


def stream_request(request: pb.StreamSamplesRequest, model: ServedModel, clock: CallClock) -> StreamRequest:
    """What a StreamSamples asks for; unless it says otherwise, as bulk work.

    Raises:
        InvalidArgument: a field is out of bounds. CapabilityMissing: the model has no such prior.
    """
    rows = _chunk_rows(request, model)
    check_output(request.output, rows, model.manifest.image)
    sample = _sample_request(request, model, clock, request.priority or pb.PRIORITY_BULK)
    return StreamRequest(chunk_rows=rows, sample=sample)


def encode_request(request: pb.EncodeRequest, model: ServedModel, clock: CallClock) -> EncodeRequest:
    """What an Encode asks for.

    Raises:
        CapabilityMissing: the model has no encoder. InvalidArgument: a field is out of bounds.
    """
    model.check_capability(models_pb2.CAPABILITY_ENCODE)
    rows = check_images("images", request.images, model)
    draw = None
    if request.HasField("draw"):
        check_indices("draw.first_index", request.draw.first_index, rows)
        draw = PosteriorDraw(seed=_seed(request.draw), first_index=request.draw.first_index)
    return EncodeRequest(
        draw=draw, labels=labels_of(request, model, rows), scheduling=clock.scheduling(request.priority)
    )


def decode_request(request: pb.DecodeRequest, model: ServedModel, clock: CallClock) -> DecodeRequest:
    """What a Decode asks for.

    Raises:
        InvalidArgument: a field is out of bounds.
    """
    rows = check_latents("latents", request.latents, model)
    check_output(request.output, rows, model.manifest.image)
    labels = labels_of(request, model, rows)
    return DecodeRequest(form=form_of(request.output), labels=labels, scheduling=clock.scheduling(request.priority))


def reconstruct_request(request: pb.ReconstructRequest, model: ServedModel, clock: CallClock) -> ReconstructRequest:
    """What a Reconstruct asks for.

    Raises:
        CapabilityMissing: the model has no encoder. InvalidArgument: a field is out of bounds.
    """
    model.check_capability(models_pb2.CAPABILITY_RECONSTRUCT)
    rows = check_images("images", request.images, model)
    check_output(request.output, rows, model.manifest.image)
    labels = labels_of(request, model, rows)
    return ReconstructRequest(
        form=form_of(request.output), labels=labels, scheduling=clock.scheduling(request.priority)
    )


def score_request(request: pb.ScoreRequest, model: ServedModel, clock: CallClock) -> ScoreRequest:
    """What a Score asks for.

    Raises:
        CapabilityMissing: the model has no encoder. InvalidArgument: a field is out of bounds.
    """
    model.check_capability(models_pb2.CAPABILITY_SCORE)
    images, draws = check_images("images", request.images, model), max(1, request.draws)
    model.check_rows("images * draws", images * draws)
    check_indices("first_index", request.first_index * draws, images * draws)
    return ScoreRequest(
        draws=request.draws,
        seed=request.seed,
        first_index=request.first_index,
        labels=labels_of(request, model, images),
        scheduling=clock.scheduling(request.priority),
    )


def _sample_request(
    request: pb.SampleRequest | pb.StreamSamplesRequest, model: ServedModel, clock: CallClock, priority: pb.Priority
) -> SampleRequest:
    sampling = _sampling(request)
    model.check_prior(sampling.prior)
    check_indices("first_index", request.first_index, request.count)
    return SampleRequest(
        count=request.count,
        seed=_seed(request),
        first_index=request.first_index,
        form=form_of(request.output),
        sampling=sampling,
        labels=labels_of(request, model),
        scheduling=clock.scheduling(priority),
    )


def check_output(output: pb.Output, rows: int, spec: bundle_pb2.ImageSpec) -> None:
    """Hold the wanted form of `rows` images to what can be made. With no rows every form passes; the model checks
    their number.

    Raises:
        InvalidArgument: the format is unknown, or a grid is too large or not of files.
    """
    if output.format not in _FORMATS:
        known = ", ".join(pb.ImageFormat.keys())
        raise InvalidArgument("output.format", f"{output.format} is not one of {known}")
    if not output.grid_columns or not rows:
        return
    if output.format not in FILE_FORMATS:
        raise InvalidArgument("output.grid_columns", "a grid is a picture: the format must be PNG, JPEG or WebP")
    columns = min(output.grid_columns, rows)
    width, height = columns * (spec.width + GAP), -(-rows // columns) * (spec.height + GAP)
    if max(width, height) > MAX_SIDE:
        raise InvalidArgument("output.grid_columns", f"{width}x{height} pixels; {MAX_SIDE} a side are allowed")


def form_of(output: pb.Output) -> PixelForm:
    """What the decoder has to give for the wanted form."""
    return PixelForm.FLOAT32 if output.format in _FLOAT_FORMATS else PixelForm.UINT8


def _seed(message: pb.SampleRequest | pb.StreamSamplesRequest | pb.Draw) -> int:
    """The seed, drawn where the caller gave none."""
    return message.seed if message.HasField("seed") else draw_seed()


def _sampling(request: pb.SampleRequest | pb.StreamSamplesRequest) -> SamplingSpec:
    """What is to be drawn from, and what is to be done to the noise."""
    if request.prior not in _PRIORS:
        raise InvalidArgument("prior", f"{request.prior} is not one of {', '.join(bundle_pb2.Prior.keys())}")
    if not request.prior and not request.HasField("shaping"):
        return STANDARD_NORMAL
    shaping = request.shaping
    return SamplingSpec(
        _PRIORS[request.prior],
        NoiseTransform(
            temperature=shaping.temperature if shaping.HasField("temperature") else 1.0,
            truncation=shaping.truncation if shaping.HasField("truncation") else None,
        ),
    )


def labels_of(request: LabelledRequest, model: ServedModel, rows: int | None = None) -> Labels:
    """The labels of the request's rows: one, or one for each of so many.

    Raises:
        InvalidArgument: there are too many or too few, or the model has no labels, or not one of these.
    """
    if not request.labels and not model.manifest.labels.count:
        return NO_LABELS
    most = max(MAX_LABELS, model.limits.max_rows_per_request)
    if len(request.labels) > most:
        raise InvalidArgument("labels", f"{len(request.labels)} labels; at most {most} are allowed")
    labels = Labels(tuple(request.labels), model.manifest.labels.count)
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
    image, batch = model.manifest.image, model.limits.max_batch_rows
    row_bytes = 4 * image.channels * image.height * image.width
    batches = max(1, _CHUNK_BYTES // row_bytes // batch)
    return min(batches * batch, model.limits.max_rows_per_request)
