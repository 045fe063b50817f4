"""Fields of GenerationService's requests, checked and as the model takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.api.images import read_images, read_latents
from latentserve_server.batching.entry import PixelForm, Terms
from latentserve_server.errors import InvalidArgument
from latentserve_server.latent.labels import MAX_LABELS, Labels
from latentserve_server.latent.prior import Drawing, Prior, Shaping
from latentserve_server.latent.walks import Axis, Path
from latentserve_server.model.answers import Spent
from latentserve_server.model.served_model import ServedModel
from latentserve_server.workers import Workers

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


def form_of(output: pb.Output) -> PixelForm:
    """What the decoder has to give for the wanted form."""
    return PixelForm.FLOAT32 if output.format in _FLOAT_FORMATS else PixelForm.UINT8


def seed_of(message: pb.SampleRequest | pb.StreamSamplesRequest | pb.Draw | pb.ScoreRequest) -> int | None:
    """The seed, where the caller gave one."""
    return message.seed if message.HasField("seed") else None


def drawing_of(request: pb.SampleRequest | pb.StreamSamplesRequest) -> Drawing:
    """What is to be drawn from, and what is to be done to the noise.

    Raises:
        InvalidArgument: the prior is unknown, or a value is out of bounds.
    """
    if request.prior not in _PRIORS:
        raise InvalidArgument("prior", f"{request.prior} is not one of {', '.join(bundle_pb2.Prior.keys())}")
    shaping = request.shaping
    return Drawing(
        _PRIORS[request.prior],
        Shaping(
            temperature=shaping.temperature if shaping.HasField("temperature") else 1.0,
            truncation=shaping.truncation if shaping.HasField("truncation") else None,
        ),
    )


def labels_of(request: LabelledRequest, model: ServedModel) -> Labels:
    """The labels of the request's rows.

    Raises:
        InvalidArgument: there are too many, or the model has no labels, or not one of these.
    """
    most = max(MAX_LABELS, model.limits.max_rows_per_request)
    if len(request.labels) > most:
        raise InvalidArgument("labels", f"{len(request.labels)} labels; at most {most} are allowed")
    return Labels(tuple(request.labels), model.manifest.labels.count)


def path_of(request: pb.InterpolateRequest) -> Path:
    """The way taken.

    Raises:
        InvalidArgument: the path is unknown, or has no two ends.
    """
    if request.path not in _PATHS:
        raise InvalidArgument("path", f"{request.path} is not one of {', '.join(pb.Path.keys())}")
    if request.steps < 2:
        raise InvalidArgument("steps", f"{request.steps}; at least 2 are needed, the two ends")
    return _PATHS[request.path]


def axes_of(request: pb.TraverseRequest, model: ServedModel) -> Sequence[Axis]:
    """The axes of a traversal.

    Raises:
        InvalidArgument: there are not one or two of them, they are the same, or one is out of bounds.
    """
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


def chunk_rows_of(request: pb.StreamSamplesRequest, model: ServedModel) -> int:
    """The rows of a chunk: what the caller says, else about a mebibyte of whole batches.

    Raises:
        InvalidArgument: there are no rows to stream, or more in a chunk than a call may have.
    """
    if not request.count:
        raise InvalidArgument("count", "0 rows; at least 1 is needed")
    if request.chunk_rows:
        model.check_rows("chunk_rows", request.chunk_rows)
        return request.chunk_rows
    image, batch = model.manifest.image, model.limits.max_batch_rows
    row_bytes = 4 * image.channels * image.height * image.width
    batches = max(1, _CHUNK_BYTES // row_bytes // batch)
    return min(batches * batch, model.limits.max_rows_per_request)


_SEED_BYTES = 1 << 14
"""A draw of one row costs about as much as work on so many bytes."""


async def locate(
    field: str,
    points: pb.Points,
    model: ServedModel,
    terms: Terms,
    workers: Workers,
    labels: Labels,
    *,
    expected: int | None = None,
) -> tuple[NDArray[np.float32], Spent]:
    """The latents [n, latent_dim] that points name, and what finding them cost. Images are encoded with the labels.

    Raises:
        InvalidArgument: nothing is named, too much, not as much as `expected`, or what is named is malformed.
        CapabilityMissing: images are named and the model has no encoder.
    """
    latents, spent = await _locate(field, points, model, terms, workers, labels)
    model.check_rows(field, len(latents))
    if expected is not None and len(latents) != expected:
        raise InvalidArgument(field, f"{len(latents)} points where {expected} are wanted")
    return latents, spent


async def _locate(
    field: str, points: pb.Points, model: ServedModel, terms: Terms, workers: Workers, labels: Labels
) -> tuple[NDArray[np.float32], Spent]:
    match points.WhichOneof("source"):
        case "latents":
            dim = model.manifest.latent.dim
            return await read_latents(f"{field}.latents", points.latents, dim, workers), Spent()
        case "seeds":
            seeds = points.seeds.seeds
            model.check_rows(f"{field}.seeds", len(seeds))
            return await workers.run(_SEED_BYTES * len(seeds), model.prior_rows, list(seeds)), Spent()
        case "images":
            limits = model.manifest.image, model.limits.max_rows_per_request
            images = await read_images(f"{field}.images", points.images, *limits, workers)
            encoded = await model.encode(images, terms, labels)
            return encoded.mean, encoded.spent
        case _:
            raise InvalidArgument(field, "none of latents, seeds and images is set")
