"""The asyncio calls that walk through the latent space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from latentserve_client import _replies, _walk_requests
from latentserve_client._aio_connection import AsyncConnection
from latentserve_client.inputs import Axis, PointsLike
from latentserve_client.model_ref import ModelLike
from latentserve_client.options import (
    CallOptions,
    FileFormat,
    Format,
    InterpolateOptions,
    LabelsLike,
    Pictures,
    Priority,
    TraverseOptions,
)
from latentserve_client.results import Walk


class AsyncWalking(AsyncConnection):
    """Calls that walk through the latent space."""

    @overload
    async def interpolate(
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
    async def interpolate(
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
    async def interpolate(
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
    async def interpolate(
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
    async def interpolate(
        self,
        model: ModelLike,
        start: PointsLike,
        end: PointsLike,
        steps: int,
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        spherical: bool = False,
        priority: Priority | None = None,
        labels: LabelsLike | None = None,
        **call: Unpack[CallOptions],
    ) -> Walk[Pictures]:
        """As Client.interpolate."""
        request = _walk_requests.build_interpolate(
            model,
            start,
            end,
            steps,
            spherical=spherical,
            format=format,
            grid_columns=grid_columns,
            priority=priority,
            labels=labels,
        )
        response, request_id = await self._call("Interpolate", self._generation.Interpolate, request, **call)
        return _replies.parse_interpolate(request, response, request_id)

    @overload
    async def traverse(
        self,
        model: ModelLike,
        axes: Sequence[Axis],
        *,
        format: Literal["float32"] = ...,
        **options: Unpack[TraverseOptions],
    ) -> Walk[NDArray[np.float32]]: ...
    @overload
    async def traverse(
        self, model: ModelLike, axes: Sequence[Axis], *, format: Literal["float16"], **options: Unpack[TraverseOptions]
    ) -> Walk[NDArray[np.float16]]: ...
    @overload
    async def traverse(
        self, model: ModelLike, axes: Sequence[Axis], *, format: Literal["uint8"], **options: Unpack[TraverseOptions]
    ) -> Walk[NDArray[np.uint8]]: ...
    @overload
    async def traverse(
        self,
        model: ModelLike,
        axes: Sequence[Axis],
        *,
        format: FileFormat,
        grid_columns: int | None = ...,
        **options: Unpack[TraverseOptions],
    ) -> Walk[list[bytes]]: ...
    async def traverse(
        self,
        model: ModelLike,
        axes: Sequence[Axis],
        *,
        format: Format = "float32",
        grid_columns: int | None = None,
        origin: PointsLike | None = None,
        priority: Priority | None = None,
        labels: LabelsLike | None = None,
        **call: Unpack[CallOptions],
    ) -> Walk[Pictures]:
        """As Client.traverse."""
        request = _walk_requests.build_traverse(
            model,
            axes,
            origin=origin,
            format=format,
            grid_columns=grid_columns,
            priority=priority,
            labels=labels,
        )
        response, request_id = await self._call("Traverse", self._generation.Traverse, request, **call)
        return _replies.parse_traverse(request, response, request_id)
