"""The asyncio client of a server's admin listener."""

from __future__ import annotations

from typing import Unpack

from latentserve.v1 import models_pb2, models_pb2_grpc
from latentserve_client import _admin_requests
from latentserve_client._aio_connection import AsyncConnection
from latentserve_client.model_info import ModelStatus, Rescanned
from latentserve_client.model_ref import ModelLike
from latentserve_client.options import CallOptions


class AsyncAdminClient(AsyncConnection):
    """`AdminClient` for asyncio: the same arguments, results and errors, awaited."""

    async def load(self, model: ModelLike, **call: Unpack[CallOptions]) -> ModelStatus:
        """As AdminClient.load."""
        request = _admin_requests.build_load(model)
        response, _ = await self._call("Load", self._admin.Load, request, **call)
        return _admin_requests.parse_load(response)

    async def unload(self, model: ModelLike, **call: Unpack[CallOptions]) -> None:
        """As AdminClient.unload."""
        await self._call("Unload", self._admin.Unload, _admin_requests.build_unload(model), **call)

    async def set_alias(self, model: ModelLike, alias: str, **call: Unpack[CallOptions]) -> bool:
        """As AdminClient.set_alias."""
        request = _admin_requests.build_set_alias(model, alias)
        response, _ = await self._call("SetAlias", self._admin.SetAlias, request, **call)
        return response.stored

    async def delete_alias(self, model: ModelLike, **call: Unpack[CallOptions]) -> bool:
        """As AdminClient.delete_alias."""
        request = _admin_requests.build_delete_alias(model)
        response, _ = await self._call("DeleteAlias", self._admin.DeleteAlias, request, **call)
        return response.stored

    async def rescan(self, **call: Unpack[CallOptions]) -> Rescanned:
        """As AdminClient.rescan."""
        response, _ = await self._call("Rescan", self._admin.Rescan, models_pb2.RescanRequest(), **call)
        return _admin_requests.parse_rescan(response)

    @property
    def _admin(self) -> models_pb2_grpc.ModelAdminServiceAsyncStub:
        return models_pb2_grpc.ModelAdminServiceStub(self._channel)
