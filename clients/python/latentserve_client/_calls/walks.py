"""Requests that walk through the latent space."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve.v1 import generation_pb2
from latentserve_client._calls.exchange import Exchange
from latentserve_client._calls.fields import MAX_UINT32, build_labels, build_priority, build_ref, integer, number
from latentserve_client._calls.payload import build_output, build_points, count_points
from latentserve_client._calls.replies import parse_interpolate, parse_traverse
from latentserve_client.errors import RequestError
from latentserve_client.inputs import Axis, Format, LabelsLike, PointsLike, Priority
from latentserve_client.models import ModelLike
from latentserve_client.results import Walk


def interpolate(
    model: ModelLike,
    start: PointsLike,
    end: PointsLike,
    steps: int,
    *,
    spherical: bool = False,
    labels: LabelsLike | None = None,
    format: Format = "float32",
    grid_columns: int | None = None,
    bands: Sequence[int] | None = None,
    priority: Priority | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[Walk]:
    """Give `steps` images on the way from each point of `start` to the same of `end`, both included.

    Samples of a high-dimensional normal prior lie near a sphere, which a straight line leaves.

    Args:
        model: its name, "name:3" (a version), "name@stable" (an alias) or a ModelRef.
        start: n points: an array [n, latent_dim] or [n, *latent_shape], Seeds, or PosteriorMeans of images.
        end: as many points, given in any of these ways.
        steps: images on each way, at least 2.
        spherical: whether to turn at constant speed, the length changing evenly, instead of going straight.
        labels: of a conditional model, which demands them, from 0: one for all ways, or one for each.
        format: "float32" (in the model's value range), "float16" or "uint8" (0 to 255) for one array, in `images`;
            "png", "jpeg" (at quality 90) or "webp" (lossless) for encoded files, in `files`.
        grid_columns: with a file format, one file with the picture of all images, in so many columns.
        bands: with a file format, the channels that files show, from 0: one as grey, three as RGB or four as RGBA; all
            of a model of 1, 3 or 4 channels unless given.
        priority: "bulk" lets others go first, "interactive" does not; "interactive" unless given.
        timeout: seconds that the call may take, retries included; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        CallError: the call failed, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    starts, ends = build_points("start", start), build_points("end", end)
    if count_points(starts) != count_points(ends):
        raise RequestError(
            f"start has {count_points(starts)} points and end {count_points(ends)}; give as many of each"
        )
    request = generation_pb2.InterpolateRequest(
        model=build_ref(model),
        to=ends,
        steps=integer("steps", steps, 2, MAX_UINT32),
        path=generation_pb2.PATH_SPHERICAL if spherical else generation_pb2.PATH_LINEAR,
        output=build_output(format, grid_columns, bands),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
    getattr(request, "from").CopyFrom(starts)  # a word of Python's own
    return Exchange("Interpolate", request, parse_interpolate, timeout, request_id)


def traverse(
    model: ModelLike,
    axes: Sequence[Axis],
    *,
    origin: PointsLike | None = None,
    labels: LabelsLike | None = None,
    format: Format = "float32",
    grid_columns: int | None = None,
    bands: Sequence[int] | None = None,
    priority: Priority | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[Walk]:
    """Show what one latent dimension does to the image at `origin`, or the plane that two of them span.

    The first axis varies slowest: with two, grid_columns=axes[1].steps makes one row of each of its values.

    Args:
        model: its name, "name:3" (a version), "name@stable" (an alias) or a ModelRef.
        axes: one Axis or two, each a latent dimension, in the row of latent_dim values, and its evenly spaced values.
        origin: one point, whose other dimensions are kept: an array [1, latent_dim] or [1, *latent_shape], Seeds, or
            PosteriorMeans of an image; 0 unless given, the mean of N(0, I), where that is a prior of the model.
        labels: of a conditional model, which demands them, from 0: one for all images, or one for each.
        format: "float32" (in the model's value range), "float16" or "uint8" (0 to 255) for one array, in `images`;
            "png", "jpeg" (at quality 90) or "webp" (lossless) for encoded files, in `files`.
        grid_columns: with a file format, one file with the picture of all images, in so many columns.
        bands: with a file format, the channels that files show, from 0: one as grey, three as RGB or four as RGBA; all
            of a model of 1, 3 or 4 channels unless given.
        priority: "bulk" lets others go first, "interactive" does not; "interactive" unless given.
        timeout: seconds that the call may take, retries included; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        CallError: the call failed, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    if not 1 <= len(axes) <= 2:
        raise RequestError(f"axes has {len(axes)} axes; give one or two")
    point = None if origin is None else build_points("origin", origin)
    if point is not None and count_points(point) != 1:
        raise RequestError(f"origin has {count_points(point)} points; give one")
    request = generation_pb2.TraverseRequest(
        model=build_ref(model),
        origin=point,
        axes=[_build_axis(f"axes[{index}]", axis) for index, axis in enumerate(axes)],
        output=build_output(format, grid_columns, bands),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
    return Exchange("Traverse", request, parse_traverse, timeout, request_id)


def _build_axis(field: str, axis: Axis) -> generation_pb2.Axis:
    return generation_pb2.Axis(
        dimension=integer(f"{field}.dimension", axis.dimension, 0, MAX_UINT32),
        low=number(f"{field}.low", axis.low),
        high=number(f"{field}.high", axis.high),
        steps=integer(f"{field}.steps", axis.steps, 2, MAX_UINT32),
    )
