"""The blocking calls that walk through the latent space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from latentserve_client._calls import walks as _walk_exchanges
from latentserve_client._transport.connection import BlockingConnection
from latentserve_client.inputs import Axis, PointsLike
from latentserve_client.models import ModelLike
from latentserve_client.options import FileFormat, Format, InterpolateOptions, Pictures, TraverseOptions
from latentserve_client.results import Walk


class Walking(BlockingConnection):
    """Calls that walk through the latent space."""

    @overload
    def interpolate(
        self,
        model: ModelLike,
        start: PointsLike,
        end: PointsLike,
        steps: int,
        *,
        format: Literal["float32"] = ...,
        **options: Unpack[InterpolateOptions],
    ) -> Walk[NDArray[np.float32]]: ...
    @overload
    def interpolate(
        self,
        model: ModelLike,
        start: PointsLike,
        end: PointsLike,
        steps: int,
        *,
        format: Literal["float16"],
        **options: Unpack[InterpolateOptions],
    ) -> Walk[NDArray[np.float16]]: ...
    @overload
    def interpolate(
        self,
        model: ModelLike,
        start: PointsLike,
        end: PointsLike,
        steps: int,
        *,
        format: Literal["uint8"],
        **options: Unpack[InterpolateOptions],
    ) -> Walk[NDArray[np.uint8]]: ...
    @overload
    def interpolate(
        self,
        model: ModelLike,
        start: PointsLike,
        end: PointsLike,
        steps: int,
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[InterpolateOptions],
    ) -> Walk[list[bytes]]: ...
    def interpolate(
        self,
        model: ModelLike,
        start: PointsLike,
        end: PointsLike,
        steps: int,
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        **options: Unpack[InterpolateOptions],
    ) -> Walk[Pictures]:
        """`steps` images on the way from each point of `start` to the same of `end`, both included.

        The way is the straight line or, where `spherical`, a turn at constant speed whose length changes evenly:
        samples of a high-dimensional normal prior lie near a sphere, which a straight line leaves.
        """
        exchange = _walk_exchanges.interpolate(
            model, start, end, steps, format=format, grid_columns=grid_columns, **options
        )
        return self._run(self._generation.Interpolate, exchange)

    @overload
    def traverse(
        self,
        model: ModelLike,
        axes: Sequence[Axis],
        *,
        format: Literal["float32"] = ...,
        **options: Unpack[TraverseOptions],
    ) -> Walk[NDArray[np.float32]]: ...
    @overload
    def traverse(
        self, model: ModelLike, axes: Sequence[Axis], *, format: Literal["float16"], **options: Unpack[TraverseOptions]
    ) -> Walk[NDArray[np.float16]]: ...
    @overload
    def traverse(
        self, model: ModelLike, axes: Sequence[Axis], *, format: Literal["uint8"], **options: Unpack[TraverseOptions]
    ) -> Walk[NDArray[np.uint8]]: ...
    @overload
    def traverse(
        self,
        model: ModelLike,
        axes: Sequence[Axis],
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[TraverseOptions],
    ) -> Walk[list[bytes]]: ...
    def traverse(
        self,
        model: ModelLike,
        axes: Sequence[Axis],
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        **options: Unpack[TraverseOptions],
    ) -> Walk[Pictures]:
        """What one latent dimension does to the image at `origin`, or the plane that two of them span.

        The first axis varies slowest: with two, grid_columns=axes[1].steps makes one row of each of its values.
        """
        exchange = _walk_exchanges.traverse(model, axes, format=format, grid_columns=grid_columns, **options)
        return self._run(self._generation.Traverse, exchange)
