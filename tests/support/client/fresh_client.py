"""Calls of a client that lives for one of them, of the blocking kind or of asyncio's."""

from __future__ import annotations

import asyncio
from typing import Any

from latentserve_client import AdminClient, AsyncAdminClient, AsyncClient, Client

Kind = type[Client] | type[AsyncClient] | type[AdminClient] | type[AsyncAdminClient]


async def call(kind: Kind, target: str, method: str, *args: Any, **kwargs: Any) -> Any:
    """What the method returns; a blocking client has a thread, for its server may run in this event loop."""
    if issubclass(kind, AsyncClient | AsyncAdminClient):
        async with kind(target) as client:
            return await getattr(client, method)(*args, **kwargs)

    def block() -> Any:
        with kind(target) as client:
            return getattr(client, method)(*args, **kwargs)

    return await asyncio.to_thread(block)
