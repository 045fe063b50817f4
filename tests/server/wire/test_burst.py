"""More callers than there is room for: each of them gets an answer of the server's own, at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from admin_server import AdminServer
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from held_graph import BACKSTOP_SECONDS
from model_shelf import Shelf
from refusal import refusal
from running_server import RunningServer, channel_to, metric, running_server
from server_process import server_process
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2

CALLS, CONNECTIONS = 10_000, 50
SLOW = pb.ModelRef(name="slow")
ENDLESS_TURNS = 2e9
FULL = "1 of at most 1 calls are under way"
PUSHBACK = "grpc-retry-pushback-ms"


@pytest.fixture(scope="module")
def slow_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    TinyModel(slow=True).write(root / "slow" / "1")
    return root


async def outcome(call: Any) -> str:
    """How a call ends; RESOURCE_EXHAUSTED only counts where it says when to come back."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        return error.code().name if int(trailers.get(PUSHBACK, 0)) > 0 else f"{error.code().name} without pushback"
    return "OK"


@pytest.mark.slow
async def test_every_call_of_a_burst_is_answered_and_counted(repository: Path) -> None:
    flags = ("--max-calls=4", "--metrics-listen=127.0.0.1:0", "--access-log=false")
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(server_process(repository, *flags))
        ready = await process.log("serving on port")
        channels = [await stack.enter_async_context(channel_to(ready["port"])) for _ in range(CONNECTIONS)]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        method = "/latentserve.v1.GenerationService/Sample"
        request = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1).SerializeToString()
        calls: list[Any] = [channel.unary_unary(method) for channel in channels]
        outcomes = Counter(await asyncio.gather(*(outcome(calls[i % CONNECTIONS](request)) for i in range(CALLS))))
        assert set(outcomes) == {"OK", "RESOURCE_EXHAUSTED"}
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while await metric(ready["metrics_port"], "requests_in_flight"):
                pass
        for code, count in outcomes.items():
            assert await metric(ready["metrics_port"], "requests_total", method="Sample", code=code) == count


@asynccontextmanager
async def full(repository: Path, **options: Any) -> AsyncIterator[RunningServer]:
    """A server that has room for one call, and has one."""
    async with running_server(
        repository, max_calls=1, metrics_listen="127.0.0.1:0", drain_timeout=0, **options
    ) as served:
        latents = from_ndarray(np.full((1, 3), ENDLESS_TURNS, np.float32))
        call: Any = served.generation.Decode(pb.DecodeRequest(model=SLOW, latents=latents))
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while not await served.metric("requests_in_flight"):
                pass
        yield served
        call.cancel()


def every_kind_of_call(served: RunningServer) -> list[Any]:
    images = from_ndarray(np.zeros((1 << 20, 1, 4, 5), np.uint8))  # which nobody reads: 20 MiB
    return [
        served.generation.Sample(pb.SampleRequest(model=SLOW, count=1)),
        served.generation.Encode(pb.EncodeRequest(model=SLOW, images=pb.Images(tensor=images))),
        served.generation.StreamSamples(pb.StreamSamplesRequest(model=SLOW, count=1)).read(),
        served.models.ListModels(models_pb2.ListModelsRequest()),
        served.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([b""])).read(),
    ]


async def test_a_full_server_refuses_every_kind_of_call_and_is_healthy(slow_repository: Path) -> None:
    async with full(slow_repository) as served:
        for call in every_kind_of_call(served):
            error = await refusal(call)
            assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, FULL)
            assert 500 <= int(dict(error.trailing_metadata() or ())[PUSHBACK]) <= 1500
        status = await served.health.Check(health_pb2.HealthCheckRequest())
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        assert await served.metric("requests_total", code="RESOURCE_EXHAUSTED") == 5


async def test_a_place_is_free_again_once_the_reply_has_left(slow_repository: Path) -> None:
    async with running_server(slow_repository, max_calls=1) as served:
        for _ in range(50):
            await served.generation.Sample(pb.SampleRequest(model=SLOW, count=1))


async def silent_call(served: RunningServer) -> Any:
    """A call that has the only place, and whose message does not come.

    Calls may arrive in another order than they were made in: where the small call has the place, this one is refused.
    """
    never = asyncio.Event()

    async def silence() -> AsyncIterator[bytes]:
        await never.wait()
        yield b""

    async with asyncio.timeout(BACKSTOP_SECONDS):
        while True:
            silent: Any = served.channel.stream_stream("/latentserve.v1.GenerationService/Sample")(silence())
            while not silent.done():
                if isinstance(await answer(served), grpc.aio.AioRpcError) and not silent.done():
                    return silent


async def test_a_call_whose_message_does_not_come_has_a_place_and_does_not_hold_up_the_stop(
    slow_repository: Path,
) -> None:
    async with running_server(slow_repository, max_calls=1, drain_timeout=1e6) as served:
        silent = await silent_call(served)
        silent.cancel()
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while isinstance(await answer(served), grpc.aio.AioRpcError):
                pass
        silent = await silent_call(served)
        async with asyncio.timeout(BACKSTOP_SECONDS):
            await served.server.stop()
        silent.cancel()


async def answer(served: RunningServer) -> object:
    """What a small call gets, or why it is refused."""
    try:
        return await served.models.ListModels(models_pb2.ListModelsRequest())
    except grpc.aio.AioRpcError as error:
        return error


@pytest.mark.cpu_only("on CUDA one run has the device at a time, and others wait for it")
async def test_a_full_server_can_be_administered(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    TinyModel(slow=True).write(tmp_path / "slow" / "1")
    async with full(tmp_path, admin_listen="127.0.0.1:0") as served, channel_to(served.server.admin_port) as channel:
        admin = AdminServer(served, channel)
        shelf.publish(1, 1)
        assert await admin.rescan() == []
        assert (await refusal(served.models.ListModels(models_pb2.ListModelsRequest()))).details() == FULL


async def test_the_number_of_watchers_is_bounded_and_each_beyond_is_told(repository: Path) -> None:
    async with running_server(repository) as served, channel_to(served.server.port) as other:
        stub: Any = health_pb2_grpc.HealthStub(other)
        request = health_pb2.HealthCheckRequest()
        watches = [served.health.Watch(request) for _ in range(900)] + [stub.Watch(request) for _ in range(100)]
        first = await asyncio.gather(*(watch.read() for watch in watches))
        assert {status.status for status in first} == {health_pb2.HealthCheckResponse.SERVING}
        error = await refusal(stub.Watch(request).read())
        assert (error.code(), error.details()) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "1000 of at most 1000 calls are under way",
        )
        watches[0].cancel()
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while not isinstance(await watched(stub), Message):
                pass


async def watched(stub: Any) -> object:
    """What a watcher gets first, or why it is refused."""
    try:
        return await stub.Watch(health_pb2.HealthCheckRequest()).read()
    except grpc.aio.AioRpcError as error:
        return error
