"""Interpolate and Traverse requests, checked and as walks through the latent space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2
from latentserve_server.api.images import check_images, check_latents
from latentserve_server.api.requests import form_of, labels_of, scheduling_of
from latentserve_server.errors import InvalidArgument
from latentserve_server.latent.prior import Prior
from latentserve_server.latent.walks import Axis, Path
from latentserve_server.model.requests import DecodeRequest, EncodeRequest
from latentserve_server.model.served_model import ServedModel
from latentserve_server.wire.exchange import Exchange

_PATHS = {pb.PATH_UNSPECIFIED: Path.LINEAR, pb.PATH_LINEAR: Path.LINEAR, pb.PATH_SPHERICAL: Path.SPHERICAL}


@dataclass(frozen=True, kw_only=True, slots=True)
class InterpolateRequest:
    """Paths of `steps` points between pairs of points."""

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


def interpolate_request(request: pb.InterpolateRequest, model: ServedModel, context: Exchange) -> InterpolateRequest:
    """What an Interpolate asks for.

    Raises:
        InvalidArgument: a field is out of bounds. CapabilityMissing: latents are codes; images are named and the model
            has no encoder, or seeds and it has no prior.
    """
    model.abilities.check_walks()
    path, scheduling = _path(request), scheduling_of(context, request.priority)
    pairs = _check_points("from", getattr(request, "from"), model)
    _check_points("to", request.to, model, expected=pairs)
    model.check_rows("pairs * steps", pairs * request.steps)
    form = form_of(request.output, pairs * request.steps, model.image)
    labels = labels_of(request, model, pairs)
    spread = labels.spread(pairs, request.steps)
    return InterpolateRequest(
        steps=request.steps,
        path=path,
        encode=EncodeRequest(labels=labels, scheduling=scheduling),
        decode=DecodeRequest(form=form, labels=spread, scheduling=scheduling, field="from, to"),
    )


def traverse_request(request: pb.TraverseRequest, model: ServedModel, context: Exchange) -> TraverseRequest:
    """What a Traverse asks for.

    Raises:
        InvalidArgument: a field is out of bounds. CapabilityMissing: latents are codes; an image is named and the model
            has no encoder, or a seed and it has no prior.
    """
    model.abilities.check_walks()
    scheduling, axes = scheduling_of(context, request.priority), _axes(request, model)
    if request.HasField("origin"):
        _check_points("origin", request.origin, model, expected=1)
    elif Prior.STANDARD_NORMAL not in model.abilities.priors:
        raise InvalidArgument("origin", "is not set; it is 0 only where N(0, I) is a prior of the model: give a point")
    rows = math.prod(axis.steps for axis in axes)
    form, labels = form_of(request.output, rows, model.image), labels_of(request, model, 1)
    return TraverseRequest(
        axes=axes,
        encode=EncodeRequest(labels=labels, scheduling=scheduling),
        decode=DecodeRequest(form=form, labels=labels.spread(1, rows), scheduling=scheduling, field="axes"),
    )


def _check_points(field: str, points: pb.Points, model: ServedModel, *, expected: int | None = None) -> int:
    """How many points a request names.

    Raises:
        InvalidArgument: nothing is named, too much, or not as much as `expected`.
        CapabilityMissing: images are named and the model has no encoder, or seeds and it has no prior.
    """
    match points.WhichOneof("source"):
        case "latents":
            count = check_latents(f"{field}.latents", points.latents, model)
        case "seeds":
            model.abilities.check(models_pb2.CAPABILITY_SAMPLE)
            count = len(points.seeds.seeds)
            model.check_rows(f"{field}.seeds", count)
        case "images":
            model.abilities.check(models_pb2.CAPABILITY_ENCODE)
            count = check_images(f"{field}.images", points.images, model)
        case _:
            raise InvalidArgument(field, "none of latents, seeds and images is set")
    if expected is not None and count != expected:
        raise InvalidArgument(field, f"{count} points where {expected} are wanted")
    return count


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
