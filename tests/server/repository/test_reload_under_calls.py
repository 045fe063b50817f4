"""What callers meet while versions load and leave."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest
from admin_server import READY, UNAVAILABLE, UNLOADING, AdminServer, admin_server, engine_threads, refusal
from held_graph import BACKSTOP_SECONDS
from held_store import HeldStore
from model_shelf import Shelf

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2

VAE = pb.ModelRef(name="vae")
UNWANTED = "the version policy latest:1 does not want it"
SOME_TURNS = 150_000


async def test_calls_are_answered_while_a_version_loads(shelf: Shelf) -> None:
    store = HeldStore(shelf.root, version=2)
    async with admin_server(shelf, store=store) as server:
        shelf.publish(2, 2)
        rescan = asyncio.create_task(server.rescan())
        await store.asked()
        assert await server.states() == {1: (READY, ""), 2: (models_pb2.MODEL_STATE_LOADING, "")}
        assert await server.answering() == (1, 1)
        store.let()
        await rescan
        assert await server.answering() == (2, 2)


async def test_a_change_goes_on_when_its_caller_leaves(shelf: Shelf) -> None:
    store = HeldStore(shelf.root, version=2)
    async with admin_server(shelf, store=store, metrics_listen="127.0.0.1:0") as server:
        shelf.publish(2, 2)
        rescan = server.admin.Rescan(models_pb2.RescanRequest())
        await store.asked()
        rescan.cancel()
        store.let()
        await server.rescan()
        assert await server.answering() == (2, 2)
        assert await server.served.metric("model_loads_total") == 2


async def test_a_server_that_is_loading_stops(shelf: Shelf) -> None:
    store = HeldStore(shelf.root, version=2)
    async with admin_server(shelf, store=store) as server:
        shelf.publish(2, 2)
        rescan = asyncio.create_task(server.rescan())
        await store.asked()
        await server.served.server.stop()
        with pytest.raises(grpc.aio.AioRpcError):
            await rescan
        store.let()


@pytest.mark.cpu_only("on CUDA one run has the device at a time, and others wait for it")
async def test_a_call_is_answered_by_the_version_that_it_began_with(shelf: Shelf) -> None:
    shelf.publish(1, 1, slow=True)
    async with admin_server(shelf, metrics_listen="127.0.0.1:0") as server:
        slow = pb.DecodeRequest(model=VAE, latents=from_ndarray(np.full((1, 3), SOME_TURNS, np.float32)))
        held: Any = server.served.generation.Decode(slow)
        await server.states()  # one connection hands calls over in order, so the call has begun
        shelf.publish(2, 2)
        await server.rescan()
        assert not held.done()
        assert await server.answering() == (2, 2)
        assert (await server.states())[1] == (UNLOADING, UNWANTED)
        said = await refusal(server.answering(version=1), grpc.StatusCode.UNAVAILABLE)
        assert said == f"model 'vae' version 1 is unloading: {UNWANTED}"
        assert await server.served.metric("model_state", version="1", state="unloading") == 1
        assert (await held).served.version == 1
        await server.unload(1)
        assert (await server.states())[1] == (UNAVAILABLE, "unloaded on request")


async def test_a_stream_holds_its_version_until_it_ends(shelf: Shelf, server: AdminServer) -> None:
    request = pb.StreamSamplesRequest(model=VAE, count=1 << 40, chunk_rows=1)
    stream: Any = server.served.generation.StreamSamples(request)
    assert (await stream.read()).served.version == 1
    shelf.publish(2, 2)
    await server.rescan()
    unload = asyncio.create_task(server.unload(1))
    for _ in range(100):
        assert (await stream.read()).served.version == 1
    assert not unload.done()
    assert (await server.states())[1][0] == UNLOADING
    stream.cancel()
    async with asyncio.timeout(BACKSTOP_SECONDS):
        await unload
    assert engine_threads() == {"engine-vae-2"}


async def test_a_version_leaves_though_the_caller_of_unload_has_gone(shelf: Shelf, measured: AdminServer) -> None:
    request = pb.StreamSamplesRequest(model=VAE, count=1 << 40, chunk_rows=1)
    stream: Any = measured.served.generation.StreamSamples(request)
    await stream.read()
    unload = measured.admin.Unload(models_pb2.UnloadRequest(name="vae", version=1))
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while (await measured.states())[1][0] != UNLOADING:
            pass
    unload.cancel()
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while not await measured.served.metric("requests_total", method="Unload", code="CANCELLED"):
            pass
    assert (await stream.read()).served.version == 1
    stream.cancel()
    async with asyncio.timeout(BACKSTOP_SECONDS):
        await measured.unload(1)
    assert (await measured.states())[1] == (UNAVAILABLE, "unloaded on request")
    assert engine_threads() == set()
    assert await measured.served.metric("batch_rows_count", version="1") == 0


async def test_a_version_that_is_wanted_back_answers_while_its_old_model_ends(
    shelf: Shelf, measured: AdminServer
) -> None:
    request = pb.StreamSamplesRequest(model=VAE, count=1 << 40, chunk_rows=1)
    stream: Any = measured.served.generation.StreamSamples(request)
    await stream.read()
    shelf.publish(2, 2)
    await measured.rescan()
    await measured.load(1)
    assert await measured.answering(version=1) == (1, 1)
    assert (await stream.read()).served.version == 1
    stream.cancel()
    assert await measured.served.metric("model_info", version="1") == 1
