"""Connections that end after a while lead clients to replicas that came later, and cost no call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from held_graph import BACKSTOP_SECONDS
from name_server import NameServer, name_server
from running_server import channel_to, running_server
from tiny_bundle import TinyModel

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc

OLD, NEW = 1, 2
SECONDS = 0.3


@pytest.fixture
def repositories(tmp_path: Path) -> dict[int, Path]:
    """One for each replica; versions tell the replicas apart."""
    for version in (OLD, NEW):
        TinyModel().write(tmp_path / str(version) / "vae" / str(version))
    return {version: tmp_path / str(version) for version in (OLD, NEW)}


@asynccontextmanager
async def two_replicas(repositories: dict[int, Path], age: float) -> AsyncIterator[tuple[NameServer, str]]:
    """Replicas on one port of two addresses, and the name that leads to the old one so far."""
    options = {"max_connection_age": age, "max_connection_grace": BACKSTOP_SECONDS}
    async with name_server("127.0.0.1") as names, running_server(repositories[OLD], **options) as old:
        listen = f"127.0.0.2:{old.server.port}"
        async with running_server(repositories[NEW], listen=listen, **options):
            yield names, f"dns://127.0.0.1:{names.port}/replicas.test:{old.server.port}"


def balancing(target: str) -> grpc.aio.Channel:
    options = [
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.dns_min_time_between_resolutions_ms", 10),
    ]
    return grpc.aio.insecure_channel(target, options)


async def replica_of(stub: generation_pb2_grpc.GenerationServiceStub) -> int:
    """Which one answers a call."""
    return (await stub.Sample(pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1))).served.version


async def test_a_replica_that_comes_later_gets_its_share_of_the_calls_and_none_fails(
    repositories: dict[int, Path],
) -> None:
    async with two_replicas(repositories, SECONDS) as (names, target), balancing(target) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        assert await replica_of(stub) == OLD
        names.addresses.append("127.0.0.2")
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while await replica_of(stub) == OLD:
                pass
            # Until here the new one had nothing; from now on they alternate, but for moments of reconnecting.
            answered = [await replica_of(stub) for _ in range(200)]
        assert answered.count(NEW) > 50


async def test_a_call_that_outlasts_its_connection_is_answered(tmp_path: Path) -> None:
    TinyModel(slow=True).write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_connection_age=0.05, max_connection_grace=BACKSTOP_SECONDS) as served:
        async with channel_to(served.server.port) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            stream = stub.StreamSamples(
                pb.StreamSamplesRequest(model=pb.ModelRef(name="vae"), count=2000, chunk_rows=8)
            )
            assert sum([chunk.images.tensor.shape[0] async for chunk in stream]) == 2000


async def test_a_call_that_outlasts_the_grace_is_cut_off_and_may_be_repeated(tmp_path: Path) -> None:
    TinyModel().write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_connection_age=0.05, max_connection_grace=0.05) as served:
        stream = served.generation.StreamSamples(pb.StreamSamplesRequest(model=pb.ModelRef(name="vae"), count=1 << 40))
        with suppress(grpc.aio.AioRpcError):
            async with asyncio.timeout(BACKSTOP_SECONDS):
                async for _ in stream:
                    pass
        assert await stream.code() is grpc.StatusCode.UNAVAILABLE
