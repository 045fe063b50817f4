"""The clients of a server's admin listener, blocking and asyncio."""

from __future__ import annotations

from latentserve_client._calls import admin
from latentserve_client._transport.connection import AsyncConnection, BlockingConnection
from latentserve_client._transport.method import awaited, blocking


class AdminClient(BlockingConnection):
    """Changes what a server serves, on its admin listener.

    Arguments and errors are Client's; `target` is the address of `--admin-listen`. No call is tried again, for a change
    whose reply was lost may have been made. A change waits for models to load and to end: give it a long `timeout`.
    """

    load = blocking(admin.load)
    unload = blocking(admin.unload)
    set_alias = blocking(admin.set_alias)
    delete_alias = blocking(admin.delete_alias)
    rescan = blocking(admin.rescan)


class AsyncAdminClient(AsyncConnection):
    """`AdminClient` for asyncio: the same arguments, results and errors, awaited."""

    load = awaited(admin.load)
    unload = awaited(admin.unload)
    set_alias = awaited(admin.set_alias)
    delete_alias = awaited(admin.delete_alias)
    rescan = awaited(admin.rescan)
