"""The asyncio calls that walk through the latent space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from latentserve_client._calls import walks as _walk_exchanges
from latentserve_client._transport.connection import AsyncConnection
from latentserve_client.inputs import Axis, PointsLike
from latentserve_client.models import ModelLike
from latentserve_client.options import FileFormat, Format, InterpolateOptions, Pictures, TraverseOptions
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
        **options: Unpack[InterpolateOptions],
    ) -> Walk[Pictures]:
        """As Client.interpolate."""
        exchange = _walk_exchanges.interpolate(
            model, start, end, steps, format=format, grid_columns=grid_columns, **options
        )
        return await self._run(self._generation.Interpolate, exchange)

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
        **options: Unpack[TraverseOptions],
    ) -> Walk[Pictures]:
        """As Client.traverse."""
        exchange = _walk_exchanges.traverse(model, axes, format=format, grid_columns=grid_columns, **options)
        return await self._run(self._generation.Traverse, exchange)
