"""Arguments of walks through the latent space to request messages. Pure functions, shared by the two clients."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve.v1 import generation_pb2
from latentserve_client._fields import MAX_UINT32, build_labels, build_priority, build_ref, integer, number
from latentserve_client._payload import build_output, build_points, count_points
from latentserve_client.errors import RequestError
from latentserve_client.inputs import Axis, PointsLike
from latentserve_client.model_ref import ModelLike
from latentserve_client.options import Format, LabelsLike, Priority


def build_interpolate(
    model: ModelLike,
    start: PointsLike,
    end: PointsLike,
    steps: int,
    *,
    spherical: bool,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None,
    labels: LabelsLike | None,
) -> generation_pb2.InterpolateRequest:
    """The request for the images on the ways from each point of `start` to the same of `end`."""
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
    return request


def build_traverse(
    model: ModelLike,
    axes: Sequence[Axis],
    *,
    origin: PointsLike | None,
    format: Format,
    grid_columns: int | None,
    priority: Priority | None,
    labels: LabelsLike | None,
) -> generation_pb2.TraverseRequest:
    """The request for the images of every combination of the axes' values."""
    if not 1 <= len(axes) <= 2:
        raise RequestError(f"axes has {len(axes)} axes; give one or two")
    point = None if origin is None else build_points("origin", origin)
    if point is not None and count_points(point) != 1:
        raise RequestError(f"origin has {count_points(point)} points; give one")
    return generation_pb2.TraverseRequest(
        model=build_ref(model),
        origin=point,
        axes=[_build_axis(f"axes[{index}]", axis) for index, axis in enumerate(axes)],
        output=build_output(format, grid_columns),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )


def _build_axis(field: str, axis: Axis) -> generation_pb2.Axis:
    return generation_pb2.Axis(
        dimension=integer(f"{field}.dimension", axis.dimension, 0, MAX_UINT32),
        low=number(f"{field}.low", axis.low),
        high=number(f"{field}.high", axis.high),
        steps=integer(f"{field}.steps", axis.steps, 2, MAX_UINT32),
    )
