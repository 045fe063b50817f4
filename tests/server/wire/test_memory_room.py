"""Memory for requests: where it is short, calls beside others are refused before theirs are read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from held_graph import BACKSTOP_SECONDS
from hypothesis import given
from hypothesis import strategies as st
from raw_connection import begun, given_up, raw_connection
from refusal import refusal
from running_server import RunningServer, running_server

from latentserve.v1 import generation_pb2 as pb
from latentserve_server.wire.memory_room import MemoryRoom, available_memory, resident_memory

MEBIBYTE = 1 << 20
SECOND = 10**9
REQUEST = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1)


async def answered_again(served: RunningServer) -> None:
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while True:
            try:
                await served.generation.Sample(REQUEST)
            except grpc.aio.AioRpcError:
                continue
            return


async def test_beside_others_a_call_is_refused_where_memory_is_short(repository: Path) -> None:
    options = {"max_memory_share": 1e-6, "metrics_listen": "127.0.0.1:0"}
    async with running_server(repository, **options) as served, raw_connection(served.server.port) as silent:
        await served.generation.Sample(REQUEST)
        await silent.say(begun(1))
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while not await served.metric("memory_refused_calls_total"):
                await asyncio.gather(served.generation.Sample(REQUEST), return_exceptions=True)
        error = await refusal(served.generation.Sample(REQUEST))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (error.details() or "").startswith("memory: ")
        (pushback,) = (value for key, value in error.trailing_metadata() or () if key == "grpc-retry-pushback-ms")
        assert 500 <= int(pushback) <= 1500
        await silent.say(given_up(1))
        await answered_again(served)


async def test_without_a_share_nobody_is_refused(repository: Path) -> None:
    async with running_server(repository, max_memory_share=0.0, metrics_listen="127.0.0.1:0") as served:
        await asyncio.gather(*(served.generation.Sample(REQUEST) for _ in range(50)))
        assert not await served.metric("memory_refused_calls_total")
        assert await served.metric("requests_total", method="Sample", code="OK") == 50


def room(used: int, limit: int) -> MemoryRoom:
    return MemoryRoom(0.5, lambda: used, lambda: limit, lambda: None)


@given(st.integers(1, 64), st.integers(1, 1000))
def test_requests_on_their_way_count_as_long_as_those_before_them(mebibytes: int, limit: int) -> None:
    whole = room(0, limit * MEBIBYTE)
    for _ in range(300):
        whole.expect()
        whole.came(mebibytes * MEBIBYTE)
    taken = 0
    while whole.refusal(SECOND, 1) is None:
        whole.expect()
        taken += 1
    assert taken == pytest.approx(limit * 0.5 / (2 * mebibytes), abs=1)


def test_what_the_process_holds_counts_and_is_given_back_where_it_is_too_much() -> None:
    holds, given_back = [10], list[int]()
    full = MemoryRoom(0.5, lambda: holds[0], lambda: 100, lambda: given_back.append(holds[0]))
    assert full.refusal(SECOND, 0) is None
    holds[0] = 60  # of 10, and half of the 90 beside them
    assert full.refusal(2 * SECOND, 1) is not None
    assert given_back == [60]
    holds[0] = 50
    assert full.refusal(3 * SECOND, 1) is None


def test_what_an_idle_process_holds_leaves_room_for_calls_however_much_it_is() -> None:
    holds = [90]
    heavy = MemoryRoom(0.5, lambda: holds[0], lambda: 100, lambda: None)
    assert heavy.refusal(SECOND, 0) is None
    holds[0] = 94
    assert heavy.refusal(2 * SECOND, 1) is None
    holds[0] = 96
    assert heavy.refusal(3 * SECOND, 1) is not None


@given(st.integers(0, 99), st.integers(1 << 16, 1 << 20))
def test_a_request_that_is_here_counts_twice_and_short_ones_do_not(used: int, size: int) -> None:
    whole = room(used, 100 * size)
    assert whole.refusal(SECOND, 1) is None
    taken = 0
    while whole.refusal_of(size, SECOND, 2) is None:
        taken += 1
    assert taken == pytest.approx(25, abs=1)
    assert whole.refusal_of(100, SECOND, 2) is None


def test_what_is_exceeded_is_told_again_until_it_is_not() -> None:
    holds = [10]
    whole = MemoryRoom(0.5, lambda: holds[0], lambda: 100, lambda: None)
    assert whole.refusal(SECOND, 0) is None
    holds[0] = 70
    assert whole.is_exceeded(SECOND) is not None
    holds[0] = 50
    assert whole.is_exceeded(SECOND) is None


def test_a_limit_that_changes_counts_from_then_on() -> None:
    limits = [100, 1000]
    resized = MemoryRoom(0.5, lambda: 60, lambda: limits[0], lambda: None)
    assert resized.refusal(SECOND, 1) is not None
    limits.pop(0)
    assert resized.refusal(3 * SECOND, 1) is None


def test_processes_share_what_the_machine_has() -> None:
    assert 0 < resident_memory() < available_memory(1)()
    assert available_memory(4)() == available_memory(1)() // 4
