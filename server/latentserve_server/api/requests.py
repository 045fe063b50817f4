"""GenerationService's requests, checked and as the model takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latentserve.contract import MAX_LABELS
from latentserve.seed import draw_seed
from latentserve.v1 import bundle_pb2, models_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.api.images import check_images, check_latents, check_output
from latentserve_server.api.timing import CallClock
from latentserve_server.errors import InvalidArgument
from latentserve_server.latent.labels import Labels
from latentserve_server.latent.prior import NoiseTransform, Prior, SamplingSpec, check_indices
from latentserve_server.latent.walks import Axis, Path
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

_FLOAT_FORMATS = (pb.IMAGE_FORMAT_UNSPECIFIED, pb.IMAGE_FORMAT_FLOAT32, pb.IMAGE_FORMAT_FLOAT16)
_PRIORS = {
    bundle_pb2.PRIOR_UNSPECIFIED: Prior.STANDARD_NORMAL,
    bundle_pb2.PRIOR_STANDARD_NORMAL: Prior.STANDARD_NORMAL,
    bundle_pb2.PRIOR_MIXTURE: Prior.MIXTURE,
}
_PATHS = {pb.PATH_UNSPECIFIED: Path.LINEAR, pb.PATH_LINEAR: Path.LINEAR, pb.PATH_SPHERICAL: Path.SPHERICAL}


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamRequest:
    """Rows of a seed's images, so many a chunk."""

    chunk_rows: int
    sample: SampleRequest
    """All rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InterpolateRequest:
    """Paths of `steps` points between pairs of points."""

    pairs: int
    steps: int
    path: Path
    encode: EncodeRequest
    """How to encode ends that are images."""
    decode: DecodeRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class TraverseRequest:
    """A grid of points along one or two axes from an origin."""

    axes: Sequence[Axis]
    encode: EncodeRequest
    """How to encode an origin that is an image."""
    decode: DecodeRequest


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
        draw=draw, labels=_labels_of(request, model, rows), scheduling=clock.scheduling(request.priority)
    )


def decode_request(request: pb.DecodeRequest, model: ServedModel, clock: CallClock) -> DecodeRequest:
    """What a Decode asks for.

    Raises:
        InvalidArgument: a field is out of bounds.
    """
    rows = check_latents("latents", request.latents, model)
    check_output(request.output, rows, model.manifest.image)
    labels = _labels_of(request, model, rows)
    return DecodeRequest(form=_form(request.output), labels=labels, scheduling=clock.scheduling(request.priority))


def reconstruct_request(request: pb.ReconstructRequest, model: ServedModel, clock: CallClock) -> ReconstructRequest:
    """What a Reconstruct asks for.

    Raises:
        CapabilityMissing: the model has no encoder. InvalidArgument: a field is out of bounds.
    """
    model.check_capability(models_pb2.CAPABILITY_RECONSTRUCT)
    rows = check_images("images", request.images, model)
    check_output(request.output, rows, model.manifest.image)
    labels = _labels_of(request, model, rows)
    return ReconstructRequest(form=_form(request.output), labels=labels, scheduling=clock.scheduling(request.priority))


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
        labels=_labels_of(request, model, images),
        scheduling=clock.scheduling(request.priority),
    )


def interpolate_request(request: pb.InterpolateRequest, model: ServedModel, clock: CallClock) -> InterpolateRequest:
    """What an Interpolate asks for.

    Raises:
        InvalidArgument: a field is out of bounds. CapabilityMissing: images are named and the model has no encoder.
    """
    path, scheduling = _path(request), clock.scheduling(request.priority)
    pairs = _check_points("from", getattr(request, "from"), model)
    _check_points("to", request.to, model, expected=pairs)
    model.check_rows("pairs * steps", pairs * request.steps)
    check_output(request.output, pairs * request.steps, model.manifest.image)
    labels, form = _labels_of(request, model, pairs), _form(request.output)
    spread = labels.spread(pairs, request.steps)
    return InterpolateRequest(
        pairs=pairs,
        steps=request.steps,
        path=path,
        encode=EncodeRequest(labels=labels, scheduling=scheduling),
        decode=DecodeRequest(form=form, labels=spread, scheduling=scheduling, field="from, to"),
    )


def traverse_request(request: pb.TraverseRequest, model: ServedModel, clock: CallClock) -> TraverseRequest:
    """What a Traverse asks for.

    Raises:
        InvalidArgument: a field is out of bounds. CapabilityMissing: an image is named and the model has no encoder.
    """
    scheduling, axes = clock.scheduling(request.priority), _axes(request, model)
    if request.HasField("origin"):
        _check_points("origin", request.origin, model, expected=1)
    rows = math.prod(axis.steps for axis in axes)
    check_output(request.output, rows, model.manifest.image)
    labels, form = _labels_of(request, model, 1), _form(request.output)
    return TraverseRequest(
        axes=axes,
        encode=EncodeRequest(labels=labels, scheduling=scheduling),
        decode=DecodeRequest(form=form, labels=labels.spread(1, rows), scheduling=scheduling, field="axes"),
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
        form=_form(request.output),
        sampling=sampling,
        labels=_labels_of(request, model),
        scheduling=clock.scheduling(priority),
    )


def _check_points(field: str, points: pb.Points, model: ServedModel, *, expected: int | None = None) -> int:
    """How many points a request names.

    Raises:
        InvalidArgument: nothing is named, too much, or not as much as `expected`.
        CapabilityMissing: images are named and the model has no encoder.
    """
    match points.WhichOneof("source"):
        case "latents":
            count = check_latents(f"{field}.latents", points.latents, model)
        case "seeds":
            count = len(points.seeds.seeds)
            model.check_rows(f"{field}.seeds", count)
        case "images":
            model.check_capability(models_pb2.CAPABILITY_ENCODE)
            count = check_images(f"{field}.images", points.images, model)
        case _:
            raise InvalidArgument(field, "none of latents, seeds and images is set")
    if expected is not None and count != expected:
        raise InvalidArgument(field, f"{count} points where {expected} are wanted")
    return count


def _form(output: pb.Output) -> PixelForm:
    """What the decoder has to give for the wanted form."""
    return PixelForm.FLOAT32 if output.format in _FLOAT_FORMATS else PixelForm.UINT8


def _seed(message: pb.SampleRequest | pb.StreamSamplesRequest | pb.Draw) -> int:
    """The seed, drawn where the caller gave none."""
    return message.seed if message.HasField("seed") else draw_seed()


def _sampling(request: pb.SampleRequest | pb.StreamSamplesRequest) -> SamplingSpec:
    """What is to be drawn from, and what is to be done to the noise."""
    if request.prior not in _PRIORS:
        raise InvalidArgument("prior", f"{request.prior} is not one of {', '.join(bundle_pb2.Prior.keys())}")
    shaping = request.shaping
    return SamplingSpec(
        _PRIORS[request.prior],
        NoiseTransform(
            temperature=shaping.temperature if shaping.HasField("temperature") else 1.0,
            truncation=shaping.truncation if shaping.HasField("truncation") else None,
        ),
    )


def _labels_of(request: LabelledRequest, model: ServedModel, rows: int | None = None) -> Labels:
    """The labels of the request's rows: one, or one for each of so many.

    Raises:
        InvalidArgument: there are too many or too few, or the model has no labels, or not one of these.
    """
    most = max(MAX_LABELS, model.limits.max_rows_per_request)
    if len(request.labels) > most:
        raise InvalidArgument("labels", f"{len(request.labels)} labels; at most {most} are allowed")
    labels = Labels(tuple(request.labels), model.manifest.labels.count)
    if rows is not None:
        labels.of_rows(rows)
    return labels


def _path(request: pb.InterpolateRequest) -> Path:
    if request.path not in _PATHS:
        raise InvalidArgument("path", f"{request.path} is not one of {', '.join(pb.Path.keys())}")
    if request.steps < 2:
        raise InvalidArgument("steps", f"{request.steps}; at least 2 are needed, the two ends")
    return _PATHS[request.path]


def _axes(request: pb.TraverseRequest, model: ServedModel) -> Sequence[Axis]:
    if len(request.axes) not in (1, 2):
        raise InvalidArgument("axes", f"{len(request.axes)} axes; 1 or 2 are allowed")
    dim = model.manifest.latent.dim
    for number, axis in enumerate(request.axes):
        field = f"axes[{number}]"
        if axis.dimension >= dim:
            raise InvalidArgument(f"{field}.dimension", f"{axis.dimension}; 0 to {dim - 1} are allowed")
        if axis.steps < 2:
            raise InvalidArgument(f"{field}.steps", f"{axis.steps}; at least 2 are needed, the two ends")
        if not (math.isfinite(axis.low) and math.isfinite(axis.high)):
            raise InvalidArgument(field, f"from {axis.low} to {axis.high}; both must be finite")
    if len({axis.dimension for axis in request.axes}) < len(request.axes):
        raise InvalidArgument("axes", f"both are dimension {request.axes[0].dimension}")
    model.check_rows("the product of axes.steps", math.prod(axis.steps for axis in request.axes))
    return [Axis(axis.dimension, axis.low, axis.high, axis.steps) for axis in request.axes]


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
