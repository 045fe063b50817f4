"""As `_exchanges`, for the calls that walk through the latent space."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve.v1 import generation_pb2
from latentserve_client._calls import replies as _replies
from latentserve_client._calls.exchange import Exchange
from latentserve_client._calls.fields import MAX_UINT32, build_labels, build_priority, build_ref, integer, number
from latentserve_client._calls.payload import build_output, build_points, count_points
from latentserve_client.errors import RequestError
from latentserve_client.inputs import Axis, PointsLike
from latentserve_client.models import ModelLike
from latentserve_client.options import Format, LabelsLike, Pictures, Priority
from latentserve_client.results import Walk


def interpolate(
    model: ModelLike,
    start: PointsLike,
    end: PointsLike,
    steps: int,
    *,
    spherical: bool = False,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None = None,
    labels: LabelsLike | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[generation_pb2.InterpolateRequest, generation_pb2.InterpolateResponse, Walk[Pictures]]:
    """The images on the ways from each point of `start` to the same of `end`."""
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
        output=build_output(format, grid_columns),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
    getattr(request, "from").CopyFrom(starts)  # a word of Python's own
    return Exchange("Interpolate", request, _replies.parse_interpolate, timeout, request_id)


def traverse(
    model: ModelLike,
    axes: Sequence[Axis],
    *,
    origin: PointsLike | None = None,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None = None,
    labels: LabelsLike | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[generation_pb2.TraverseRequest, generation_pb2.TraverseResponse, Walk[Pictures]]:
    """The images of every combination of the axes' values."""
    if not 1 <= len(axes) <= 2:
        raise RequestError(f"axes has {len(axes)} axes; give one or two")
    point = None if origin is None else build_points("origin", origin)
    if point is not None and count_points(point) != 1:
        raise RequestError(f"origin has {count_points(point)} points; give one")
    request = generation_pb2.TraverseRequest(
        model=build_ref(model),
        origin=point,
        axes=[_build_axis(f"axes[{index}]", axis) for index, axis in enumerate(axes)],
        output=build_output(format, grid_columns),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
    return Exchange("Traverse", request, _replies.parse_traverse, timeout, request_id)


def _build_axis(field: str, axis: Axis) -> generation_pb2.Axis:
    return generation_pb2.Axis(
        dimension=integer(f"{field}.dimension", axis.dimension, 0, MAX_UINT32),
        low=number(f"{field}.low", axis.low),
        high=number(f"{field}.high", axis.high),
        steps=integer(f"{field}.steps", axis.steps, 2, MAX_UINT32),
    )
