"""The blocking client of a server's admin listener."""

from __future__ import annotations

from typing import Unpack

from latentserve_client._calls import admin as _admin_exchanges
from latentserve_client._transport.connection import AsyncConnection, BlockingConnection
from latentserve_client.models import ModelLike, ModelStatus, Rescanned
from latentserve_client.options import CallOptions


class AdminClient(BlockingConnection):
    """Changes what a server serves, on its admin listener.

    Arguments and errors are Client's; `target` is the address of `--admin-listen`. No call is tried again, for a change
    whose reply was lost may have been made. A change waits for models to load and to end: give it a long `timeout`.
    """

    def load(self, model: ModelLike, **call: Unpack[CallOptions]) -> ModelStatus:
        """Make the version that `model` names, as "digits:3", READY, and keep it whatever the version policy.

        Returns once it is READY. Where it cannot be loaded, a FailedPreconditionError says why and nothing changes.
        """
        return self._run(self._admin.Load, _admin_exchanges.load(model, **call))

    def unload(self, model: ModelLike, **call: Unpack[CallOptions]) -> None:
        """Take the version that `model` names out of service, whatever the version policy.

        Returns once its last call is answered. Refused for a version that an alias points to.
        """
        self._run(self._admin.Unload, _admin_exchanges.unload(model, **call))

    def set_alias(self, model: ModelLike, alias: str, **call: Unpack[CallOptions]) -> bool:
        """Make the alias, or move it, to the READY version that `model` names.

        Returns whether that was stored in the repository; where that is read-only, the alias ends with the server.
        """
        return self._run(self._admin.SetAlias, _admin_exchanges.set_alias(model, alias, **call))

    def delete_alias(self, model: ModelLike, **call: Unpack[CallOptions]) -> bool:
        """Delete the alias that `model` names, as "digits@stable"; returns whether the repository was changed."""
        return self._run(self._admin.DeleteAlias, _admin_exchanges.delete_alias(model, **call))

    def rescan(self, **call: Unpack[CallOptions]) -> Rescanned:
        """Have the server read the repository again and follow it; returns once everything is loaded or has failed."""
        return self._run(self._admin.Rescan, _admin_exchanges.rescan(**call))


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
