"""A stream that is cut off goes on with the same bits, or not at all unless any will do. Real servers, real breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from relay import Relay, relay_to
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.v1 import generation_pb2, models_pb2
from latentserve_client import AsyncClient, Client, NumericsError, Samples
from latentserve_server.latent.noise import NoiseSource, Stream

pytestmark = pytest.mark.cpu_only("the same bits in batches of any size are promised on the CPU alone")

COUNT, SEED, CHUNK_ROWS = 400, 7, 4
Read = Callable[..., Awaitable[None]]


@dataclass
class Servers:
    """Three servers of a version "vae:1": `twin` has the weights of `one`, and `other` has not."""

    one: RunningServer
    twin: RunningServer
    other: RunningServer


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    for name, seed in (("one", 1), ("other", 2)):
        TinyModel(seed=seed).write(tmp_path / name / "vae" / "1")
    async with (
        running_server(tmp_path / "one") as one,
        running_server(tmp_path / "one") as twin,
        running_server(tmp_path / "other") as other,
    ):
        yield Servers(one, twin, other)


async def numerics_of(served: RunningServer) -> str:
    request = models_pb2.GetModelRequest(model=generation_pb2.ModelRef(name="vae"))
    return (await served.models.GetModel(request)).model.numerics


def images_of(seed: int, first: int, count: int) -> NDArray[np.float64]:
    """What the model of the weights' seed draws."""
    return TinyModel(seed=seed).images(NoiseSource().draw(SEED, first, count, 3, Stream.PRIOR))


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "asyncio"])
def read(request: pytest.FixtureRequest) -> Read:
    """Reads a stream from a target, with a client of either kind, into a list."""

    async def read(target: str, chunks: list[Samples], **options: Any) -> None:
        how = {"seed": SEED, "chunk_rows": CHUNK_ROWS, **options}

        def block() -> None:
            with Client(target) as client:
                chunks.extend(client.stream_samples("vae", COUNT, **how))

        if request.param is Client:
            await asyncio.to_thread(block)
            return
        async with AsyncClient(target) as client:
            async for chunk in client.stream_samples("vae", COUNT, **how):
                chunks.append(chunk)

    return read


@asynccontextmanager
async def breaking_off(served: RunningServer, following: RunningServer) -> AsyncIterator[Relay]:
    """A relay that breaks off half-way through the stream, and whose next connections lead to the following server."""
    async with relay_to(served.server.port) as relay:
        relay.move_after(COUNT * TinyModel().pixels * 4 // 2, following.server.port)
        yield relay


async def test_a_stream_goes_on_where_the_same_bits_are_computed(read: Read, servers: Servers) -> None:
    chunks: list[Samples] = []
    async with breaking_off(servers.one, servers.twin) as relay:
        await read(f"127.0.0.1:{relay.port}", chunks)
    assert {chunk.served.numerics for chunk in chunks} == {await numerics_of(servers.one)}
    drawn = np.concatenate([chunk.images for chunk in chunks])
    np.testing.assert_allclose(drawn, images_of(1, 0, COUNT), atol=1e-5)


async def test_a_stream_that_could_only_go_on_with_other_bits_ends(read: Read, servers: Servers) -> None:
    chunks: list[Samples] = []
    async with breaking_off(servers.one, servers.other) as relay:
        with pytest.raises(NumericsError) as raised:
            await read(f"127.0.0.1:{relay.port}", chunks, timeout=4.0)
    before, after = await numerics_of(servers.one), await numerics_of(servers.other)
    assert (raised.value.before, raised.value.after) == (before, after)
    would = f"the rows would have other last bits: numerics {after}, not {before} as before"
    assert str(raised.value) == f"from index {raised.value.index} on {would}"
    assert raised.value.index == len(chunks) * CHUNK_ROWS < COUNT
    drawn = np.concatenate([chunk.images for chunk in chunks])
    np.testing.assert_allclose(drawn, images_of(1, 0, raised.value.index), atol=1e-5)


async def test_a_stream_to_which_any_bits_will_do_goes_on_and_says_so(read: Read, servers: Servers) -> None:
    chunks: list[Samples] = []
    async with breaking_off(servers.one, servers.other) as relay:
        await read(f"127.0.0.1:{relay.port}", chunks, any_numerics=True)
    numerics = [chunk.served.numerics for chunk in chunks]
    before, after = await numerics_of(servers.one), await numerics_of(servers.other)
    changed = numerics.index(after)
    assert numerics == [before] * changed + [after] * (COUNT // CHUNK_ROWS - changed)
    for chunk in chunks:
        seed = 1 if chunk.served.numerics == before else 2
        np.testing.assert_allclose(chunk.images, images_of(seed, chunk.first_index, CHUNK_ROWS), atol=1e-5)


async def test_among_unlike_servers_a_stream_finds_one_like_its_first(read: Read, servers: Servers) -> None:
    chunks: list[Samples] = []
    unlike = breaking_off(servers.one, servers.one), breaking_off(servers.other, servers.other)
    async with unlike[0] as one, unlike[1] as other:
        await read(f"ipv4:127.0.0.1:{one.port},127.0.0.1:{other.port}", chunks)
    assert len({chunk.served.numerics for chunk in chunks}) == 1
    seed = 1 if chunks[0].served.numerics == await numerics_of(servers.one) else 2
    drawn = np.concatenate([chunk.images for chunk in chunks])
    np.testing.assert_allclose(drawn, images_of(seed, 0, COUNT), atol=1e-5)
