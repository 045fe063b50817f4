"""The asyncio client of a server's admin listener."""

from __future__ import annotations

from typing import Unpack

from latentserve_client import _admin_exchanges
from latentserve_client._aio_connection import AsyncConnection
from latentserve_client.model_info import ModelStatus, Rescanned
from latentserve_client.model_ref import ModelLike
from latentserve_client.options import CallOptions


class AsyncAdminClient(AsyncConnection):
    """`AdminClient` for asyncio: the same arguments, results and errors, awaited."""

    async def load(self, model: ModelLike, **call: Unpack[CallOptions]) -> ModelStatus:
        """As AdminClient.load."""
        return await self._run(self._admin.Load, _admin_exchanges.load(model, **call))

    async def unload(self, model: ModelLike, **call: Unpack[CallOptions]) -> None:
        """As AdminClient.unload."""
        await self._run(self._admin.Unload, _admin_exchanges.unload(model, **call))

    async def set_alias(self, model: ModelLike, alias: str, **call: Unpack[CallOptions]) -> bool:
        """As AdminClient.set_alias."""
        return await self._run(self._admin.SetAlias, _admin_exchanges.set_alias(model, alias, **call))

    async def delete_alias(self, model: ModelLike, **call: Unpack[CallOptions]) -> bool:
        """As AdminClient.delete_alias."""
        return await self._run(self._admin.DeleteAlias, _admin_exchanges.delete_alias(model, **call))

    async def rescan(self, **call: Unpack[CallOptions]) -> Rescanned:
        """As AdminClient.rescan."""
        return await self._run(self._admin.Rescan, _admin_exchanges.rescan(**call))
