"""Health tells the truth from the first moment to the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from admin_server import AdminServer, admin_server
from grpc_health.v1 import health_pb2
from held_store import HeldStore
from model_shelf import Shelf
from running_server import RunningServer, channel_to, config_for, running_server

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2
from latentserve_server.server import Server

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = (
    "",
    "latentserve.v1.GenerationService",
    "latentserve.v1.ModelService",
    "inference.GRPCInferenceService",
)


async def statuses(served: RunningServer) -> list[int]:
    checks = [served.health.Check(health_pb2.HealthCheckRequest(service=service)) for service in SERVICES]
    return [(await check).status for check in checks]


@asynccontextmanager
async def loading_server(shelf: Shelf) -> AsyncIterator[tuple[RunningServer, HeldStore]]:
    """A server that is loading a bundle and goes on when its store lets it."""
    store = HeldStore(shelf.root, version=1)
    server = Server(config_for(shelf.root), store)
    starting = asyncio.create_task(server.start())
    try:
        await store.asked()
        async with channel_to(server.port) as channel:
            yield RunningServer(server, channel), store
        await starting
    finally:
        await server.stop()


async def test_nothing_serves_while_a_model_loads(shelf: Shelf) -> None:
    async with loading_server(shelf) as (served, store):
        assert await statuses(served) == [NOT_SERVING] * len(SERVICES)
        (listed,) = (await served.models.ListModels(models_pb2.ListModelsRequest())).models
        assert (listed.state, listed.is_default) == (models_pb2.MODEL_STATE_LOADING, False)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.generation.Sample(pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        watch = served.health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == NOT_SERVING
        store.let()
        assert (await watch.read()).status == SERVING
        assert await statuses(served) == [SERVING] * len(SERVICES)
        watch.cancel()


async def test_a_server_without_a_ready_version_does_not_serve_until_there_is_one(
    shelf: Shelf, server: AdminServer
) -> None:
    watch = server.served.health.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING
    await server.unload(1)
    assert (await watch.read()).status == NOT_SERVING
    assert await statuses(server.served) == [NOT_SERVING, NOT_SERVING, SERVING, NOT_SERVING]
    await server.load(1)
    assert (await watch.read()).status == SERVING
    assert await statuses(server.served) == [SERVING] * len(SERVICES)
    shelf.remove(1)
    await server.rescan()
    assert (await watch.read()).status == NOT_SERVING
    shelf.publish(2, 2)
    await server.rescan()
    assert (await watch.read()).status == SERVING
    await server.served.server.stop()
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()


async def test_a_server_that_waits_to_be_told_what_to_serve_does_not_serve(shelf: Shelf) -> None:
    async with admin_server(shelf, version_policy="explicit") as server:
        assert await statuses(server.served) == [NOT_SERVING, NOT_SERVING, SERVING, NOT_SERVING]
        await server.load(1)
        assert await statuses(server.served) == [SERVING] * len(SERVICES)


async def test_every_service_serves_after_the_start(served: RunningServer) -> None:
    assert await statuses(served) == [SERVING] * len(SERVICES)


async def test_an_unknown_service_is_not_found(served: RunningServer) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.health.Check(health_pb2.HealthCheckRequest(service="other.Service"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_sees_the_stop_before_calls_are_refused(repository: Path) -> None:
    async with running_server(repository, drain_delay=1.0, drain_timeout=0.2) as served:
        watch = served.health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        stopping = asyncio.create_task(served.server.stop())
        assert (await watch.read()).status == NOT_SERVING
        assert await statuses(served) == [NOT_SERVING] * len(SERVICES)
        await served.generation.Sample(pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1))
        await stopping


async def test_a_watcher_does_not_hold_up_the_stop(repository: Path) -> None:
    async with running_server(repository, drain_timeout=2.0) as served:
        watch = served.health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        async with asyncio.timeout(1):
            await served.server.stop()
