"""A real server over a shelf of models that change, with its admin service."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from model_shelf import Shelf, reconstruction, seed_of
from running_server import RunningServer, channel_to, running_server

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2, models_pb2_grpc

SEEDS = range(20)
READY, UNLOADING = models_pb2.MODEL_STATE_READY, models_pb2.MODEL_STATE_UNLOADING
UNAVAILABLE, LOADING = models_pb2.MODEL_STATE_UNAVAILABLE, models_pb2.MODEL_STATE_LOADING


class AdminServer:
    """A server that serves a shelf's models, and can be told to change what it serves."""

    def __init__(self, served: RunningServer, admin: grpc.aio.Channel) -> None:
        self.served = served
        self.channel = admin
        self.admin = models_pb2_grpc.ModelAdminServiceStub(admin)

    async def rescan(self) -> list[str]:
        """Have the server follow the shelf; returns the problems."""
        return list((await self.admin.Rescan(models_pb2.RescanRequest())).problems)

    async def load(self, version: int) -> None:
        """Load a version."""
        await self.admin.Load(models_pb2.LoadRequest(name="vae", version=version))

    async def unload(self, version: int) -> None:
        """Unload a version."""
        await self.admin.Unload(models_pb2.UnloadRequest(name="vae", version=version))

    async def set_alias(self, alias: str, version: int) -> bool:
        """Move an alias; returns whether that was stored."""
        request = models_pb2.SetAliasRequest(name="vae", alias=alias, version=version)
        return bool((await self.admin.SetAlias(request)).stored)

    async def delete_alias(self, alias: str) -> bool:
        """Delete an alias; returns whether that was stored."""
        return bool((await self.admin.DeleteAlias(models_pb2.DeleteAliasRequest(name="vae", alias=alias))).stored)

    async def answering(self, **selector: Any) -> tuple[int, int]:
        """The version that answers, and the seed whose model it is."""
        reply = await self.served.generation.Reconstruct(reconstruction(pb.ModelRef(name="vae", **selector)))
        return reply.served.version, seed_of(reply, SEEDS)

    async def listed(self) -> dict[int, models_pb2.ModelStatus]:
        """The versions of the model."""
        reply = await self.served.models.ListModels(models_pb2.ListModelsRequest())
        return {status.version: status for status in reply.models}

    async def states(self) -> dict[int, tuple[int, str]]:
        """The state of every version, and the reason."""
        return {version: (status.state, status.reason) for version, status in (await self.listed()).items()}


@asynccontextmanager
async def admin_server(shelf: Shelf, **options: Any) -> AsyncIterator[AdminServer]:
    """A server over the shelf, with its admin service on a port of its own."""
    repository = options.pop("repository", shelf.root)
    async with running_server(repository, admin_listen="127.0.0.1:0", **options) as served:
        async with channel_to(served.server.admin_port) as channel:
            yield AdminServer(served, channel)


def engine_threads() -> set[str]:
    """The versions that have an engine's thread."""
    return {thread.name.split("_")[0] for thread in threading.enumerate() if thread.name.startswith("engine-vae-")}


async def refusal(call: Awaitable[object], code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION) -> str:
    """What a call that is refused with the status says."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code
    return caught.value.details() or ""
