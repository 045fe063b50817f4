"""Callers who try to take more than their part of a connection, of memory or of time: bounded, while others are
answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from held_graph import BACKSTOP_SECONDS, turn_loop
from raw_connection import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SAMPLE,
    Frame,
    begun,
    given_up,
    header_block,
    message,
    raw_connection,
)
from refusal import refusal
from running_server import RunningServer, channel_to, running_server
from tiny_bundle import TinyModel

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc

REQUEST = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1)
FRAME_BYTES = 1 << 14
STREAMS = 1000
"""What a connection may have under way, by grpc.max_concurrent_streams."""
MEBIBYTE = {"max_message_bytes": 1 << 20, "max_queue_bytes": 1 << 20, "max_inflight_bytes": 2 << 20}


@pytest.fixture
async def served(repository: Path) -> AsyncIterator[RunningServer]:
    async with running_server(repository, metrics_listen="127.0.0.1:0", **MEBIBYTE) as server:
        yield server


async def answers(port: int) -> None:
    """Hold the server to its answers, over a connection of its own."""
    async with channel_to(port) as channel, asyncio.timeout(BACKSTOP_SECONDS):
        reply = await generation_pb2_grpc.GenerationServiceStub(channel).Sample(REQUEST, wait_for_ready=True)
        assert reply.served.model == "vae"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while not holds():
            await turn_loop()  # for what the loop reads


async def test_streams_beyond_those_of_a_connection_are_refused(served: RunningServer) -> None:
    async with raw_connection(served.server.port) as greedy, asyncio.timeout(BACKSTOP_SECONDS):
        for first in range(0, STREAMS + 200, 100):
            await greedy.say(*(begun(2 * number + 1) for number in range(first, first + 100)))
        await greedy.until(RST_STREAM, 200)
        assert greedy.is_closed or len(greedy.of(RST_STREAM)) >= 200
        assert await served.metric("requests_in_flight") <= STREAMS
        await answers(served.server.port)


async def test_calls_that_are_begun_and_given_up_at_once_leave_nothing_behind(served: RunningServer) -> None:
    async with raw_connection(served.server.port) as hasty:
        for number in range(2000):
            await hasty.say(begun(2 * number + 1), given_up(2 * number + 1))
        await answers(served.server.port)
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while await served.metric("requests_in_flight"):
            pass
    await answers(served.server.port)


@pytest.mark.parametrize("size", [1 << 17, 1 << 20])
async def test_headers_that_do_not_end_are_cut_off(served: RunningServer, size: int) -> None:
    block = header_block(SAMPLE, [("x-long", "x" * size)])
    parts = [block[at : at + FRAME_BYTES] for at in range(0, len(block), FRAME_BYTES)]
    async with raw_connection(served.server.port) as wordy, asyncio.timeout(BACKSTOP_SECONDS):
        await wordy.say(Frame(HEADERS, 0, 1, parts[0]))
        for part in parts[1:]:
            await wordy.say(Frame(CONTINUATION, 0, 1, part))
        await answers(served.server.port)  # the block is still open
        await wordy.say(Frame(CONTINUATION, END_HEADERS, 1, b""))
        await until(lambda: wordy.is_closed or bool(wordy.of(RST_STREAM) or wordy.of(HEADERS) or wordy.of(GOAWAY)))
        assert not wordy.of(DATA)
    assert await served.metric("requests_total", method="Sample") == 1, "the one that was answered"


@pytest.mark.parametrize("claimed", [(1 << 20) + 1, 1 << 31, (1 << 32) - 1])
async def test_a_message_is_refused_by_its_length_before_it_has_come(served: RunningServer, claimed: int) -> None:
    async with raw_connection(served.server.port) as boaster, asyncio.timeout(BACKSTOP_SECONDS):
        await boaster.say(begun(1), Frame(DATA, 0, 1, message(b"x" * 100, claimed)))
        await until(lambda: boaster.is_closed or bool(boaster.of(HEADERS) or boaster.of(RST_STREAM)))
        assert not boaster.of(DATA)
        await answers(served.server.port)


async def test_a_message_beyond_the_limit_is_refused(served: RunningServer) -> None:
    call = served.channel.unary_unary(SAMPLE)
    error = await refusal(call(b"x" * ((1 << 20) + 1)))  # type: ignore[misc]
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await answers(served.server.port)


async def test_connections_beyond_the_limit_are_closed_and_those_that_are_there_go_on(repository: Path) -> None:
    async with running_server(repository, max_connections=20) as served, AsyncExitStack() as flood:
        await served.generation.Sample(REQUEST)
        connections = [await flood.enter_async_context(raw_connection(served.server.port)) for _ in range(80)]
        await until(lambda: sum(connection.is_closed for connection in connections) >= 60)
        assert (await served.generation.Sample(REQUEST)).served.model == "vae"
        await flood.aclose()
        await answers(served.server.port)


@pytest.mark.slow
async def test_connections_that_say_nothing_are_closed_after_a_while(repository: Path) -> None:
    """20 s, by grpc.server_handshake_timeout_ms."""
    async with running_server(repository, max_connections=20) as served, AsyncExitStack() as crowd:
        silent = [
            await crowd.enter_async_context(raw_connection(served.server.port, says_hello=False)) for _ in range(20)
        ]
        async with asyncio.timeout(BACKSTOP_SECONDS):
            await asyncio.gather(*(connection.until_closed() for connection in silent))
        await answers(served.server.port)


async def test_connections_that_say_nothing_hold_up_nobody(served: RunningServer) -> None:
    async with AsyncExitStack() as crowd:
        for _ in range(50):
            await crowd.enter_async_context(raw_connection(served.server.port, says_hello=False))
        await answers(served.server.port)


@pytest.mark.slow
async def test_peers_who_vanish_are_given_up_and_their_calls_with_them(repository: Path) -> None:
    """A ping after 60 s, by grpc.keepalive_time_ms, and another 60 s: the machine of this one still answers."""
    async with running_server(repository, max_calls=1) as served, raw_connection(served.server.port) as gone:
        gone.fall_silent()
        await gone.say(begun(1), begun(3))
        assert [frame.stream for frame in await gone.until(HEADERS)] == [3]
        error = await refusal(served.generation.Sample(REQUEST))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        async with asyncio.timeout(60 + 60 + BACKSTOP_SECONDS):
            await gone.until_closed()
        (goodbye,) = gone.of(GOAWAY)
        assert b"ping_timeout" in goodbye.payload
        await answers(served.server.port)


async def test_what_is_not_http2_is_closed_at_once(served: RunningServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    async with asyncio.timeout(BACKSTOP_SECONDS):
        await reader.read()
    writer.close()
    await answers(served.server.port)


async def test_readers_of_nothing_are_given_up_and_hold_up_nobody(tmp_path: Path) -> None:
    """They take no byte of a reply, by a window of 0, and say so for as long as they are let."""
    TinyModel().write(tmp_path / "vae" / "1")
    options = {"max_calls": 30, "unread_timeout": 0.2, "metrics_listen": "127.0.0.1:0"}
    request = pb.StreamSamplesRequest(model=REQUEST.model, count=1 << 40, chunk_rows=8).SerializeToString()
    path = "/latentserve.v1.GenerationService/StreamSamples"
    async with running_server(tmp_path, **options) as served, AsyncExitStack() as crowd:
        slow = [await crowd.enter_async_context(raw_connection(served.server.port, window=0)) for _ in range(20)]
        for connection in slow:
            await connection.say(begun(1, path=path), Frame(DATA, END_STREAM, 1, message(request)))
        await answers(served.server.port)
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while await served.metric("requests_total", method="StreamSamples", code="UNAVAILABLE") < len(slow):
                pass
        assert await served.metric("requests_in_flight") == 0
        await answers(served.server.port)


async def test_a_flood_of_pings_is_cut_off(served: RunningServer) -> None:
    async with raw_connection(served.server.port) as eager, asyncio.timeout(BACKSTOP_SECONDS):
        await eager.say(*[Frame(PING, 0, 0, bytes(8))] * 100)
        (goodbye, *_) = await eager.until(GOAWAY)
        assert b"too_many_pings" in goodbye.payload
        await answers(served.server.port)


async def test_too_many_calls_are_refused_and_those_under_way_are_answered(repository: Path) -> None:
    async with running_server(repository, max_calls=50) as served:
        async with raw_connection(served.server.port) as greedy, asyncio.timeout(BACKSTOP_SECONDS):
            await greedy.say(*(begun(2 * number + 1) for number in range(80)))
            refused = await greedy.until(HEADERS, 30)
            assert {frame.stream for frame in refused} <= set(range(101, 160, 2))
            data = message(REQUEST.SerializeToString())
            await greedy.say(*(Frame(DATA, END_STREAM, 2 * number + 1, data) for number in range(50)))
            replies = await greedy.until(DATA, 50)
            assert {frame.stream for frame in replies} == set(range(1, 100, 2))
        await answers(served.server.port)
