"""Deadlines, retries, request ids and the life of a client's channel."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from latentserve_client import (
    CHANNEL_OPTIONS,
    AsyncClient,
    CallError,
    CancelledError,
    Client,
    ClosedError,
    DeadlineExceededError,
    InvalidArgumentError,
    RequestError,
    UnavailableError,
)

Invoke = Callable[..., Awaitable[Any]]
Attempts = list[tuple[str, str, Any]]
CALLERS = 48
CLOSED = "the client was closed during the call"


RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@pytest.mark.parametrize("code", RETRIED, ids=lambda code: code.name)
async def test_a_call_that_the_server_did_not_take_is_made_again(
    invoke: Invoke, faults: list[Any], attempts: Attempts, code: grpc.StatusCode
) -> None:
    faults.extend([code] * 2)
    result = await invoke("sample", "linear", 2)
    assert result.images.shape == (2, 3, 4, 6)
    assert len(attempts) == 3
    assert {request_id for _, request_id, _ in attempts} == {result.served.request_id}
    assert {request.seed for _, _, request in attempts} == {result.seed}


async def test_a_batch_larger_than_grpcs_own_retry_buffer_is_sent_again(
    invoke: Invoke, faults: list[Any], attempts: Attempts
) -> None:
    faults.append(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(InvalidArgumentError, match=r"^images: "):
        await invoke("encode", "linear", np.zeros((1, 3, 1024, 1024), np.uint8))
    assert len(attempts) == 2


async def test_retries_end(invoke: Invoke, faults: list[Any], attempts: Attempts) -> None:
    faults.extend([grpc.StatusCode.UNAVAILABLE] * 10)
    with pytest.raises(UnavailableError):
        await invoke("models")
    assert len(attempts) == 4


@pytest.mark.parametrize(
    "code", sorted(set(grpc.StatusCode) - {grpc.StatusCode.OK, *RETRIED}, key=str), ids=lambda code: code.name
)
async def test_nothing_else_is_retried(
    invoke: Invoke, faults: list[Any], attempts: Attempts, code: grpc.StatusCode
) -> None:
    faults.append(code)
    with pytest.raises(CallError) as raised:
        await invoke("sample", "linear", 1)
    assert raised.value.code is code
    assert len(attempts) == 1


@pytest.mark.parametrize("kind", ["threads", "tasks"])
async def test_every_call_has_its_four_attempts_however_many_fail(
    target: str, faults: list[Any], attempts: Attempts, kind: str
) -> None:
    faults.extend([grpc.StatusCode.UNAVAILABLE] * 1000)
    if kind == "threads":
        with Client(target) as client, ThreadPoolExecutor(CALLERS) as threads:
            calls = [threads.submit(client.models) for _ in range(CALLERS)]
            failures = [call.exception() for call in calls]
    else:
        async with AsyncClient(target) as awaited:
            results = await asyncio.gather(*(awaited.models() for _ in range(CALLERS)), return_exceptions=True)
            failures = list(results)
    assert {type(failure) for failure in failures} == {UnavailableError}
    assert len(attempts) == 4 * CALLERS


async def test_a_call_ends_at_its_deadline(invoke: Invoke, faults: list[Any]) -> None:
    faults.append("stall")
    with pytest.raises(DeadlineExceededError) as raised:
        await invoke("sample", "linear", 1, timeout=0.2, request_id="slow")
    assert raised.value.request_id == "slow"


def test_every_call_has_the_clients_deadline(target: str, faults: list[Any]) -> None:
    faults.append("stall")
    with Client(target, timeout=0.2) as client, pytest.raises(DeadlineExceededError):
        client.models()


async def test_every_awaited_call_has_the_clients_deadline(target: str, faults: list[Any]) -> None:
    faults.append("stall")
    async with AsyncClient(target, timeout=0.2) as client:
        with pytest.raises(DeadlineExceededError):
            await client.models()


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
async def test_a_timeout_is_a_number_of_seconds(invoke: Invoke, attempts: Attempts, seconds: float) -> None:
    with pytest.raises(RequestError) as raised:
        await invoke("models", timeout=seconds)
    assert str(raised.value) == f"timeout {seconds} is not a positive number of seconds"
    with pytest.raises(RequestError, match=r"^timeout "):
        Client(timeout=seconds)
    assert attempts == []


async def test_a_caller_chooses_the_request_id(invoke: Invoke, attempts: Attempts) -> None:
    result = await invoke("sample", "linear", 1, request_id="trace:42")
    assert result.served.request_id == "trace:42"
    assert attempts[0][1] == "trace:42"


@pytest.mark.parametrize("request_id", ["", "two words", "line\n", "é", "x" * 129])
async def test_a_request_id_can_be_a_header(invoke: Invoke, attempts: Attempts, request_id: str) -> None:
    with pytest.raises(RequestError) as raised:
        await invoke("models", request_id=request_id)
    assert str(raised.value) == f"request_id {request_id!r} is not 1 to 128 visible ASCII characters"
    assert attempts == []


async def test_nobody_listens(unused_tcp_port: int) -> None:
    with Client(f"127.0.0.1:{unused_tcp_port}") as client, pytest.raises(UnavailableError) as raised:
        client.models()
    assert len(raised.value.request_id) == 32
    async with AsyncClient(f"127.0.0.1:{unused_tcp_port}") as awaited:
        with pytest.raises(UnavailableError):
            await awaited.models()


def test_a_closed_client_says_so(target: str) -> None:
    with Client(target) as client:
        assert not client.closed
    assert client.closed
    client.close()
    with pytest.raises(ClosedError) as raised:
        client.models()
    assert str(raised.value) == "the client is closed"
    with pytest.raises(ClosedError), client:
        pass


async def test_a_closed_async_client_says_so(target: str) -> None:
    async with AsyncClient(target) as client:
        assert not client.closed
    assert client.closed
    await client.close()
    with pytest.raises(ClosedError):
        await client.models()
    with pytest.raises(ClosedError):
        async with client:
            pass


def test_closing_ends_the_calls_in_flight(target: str, faults: list[Any], stalled: queue.Queue[str]) -> None:
    faults.append("stall")
    client = Client(target)

    def close() -> None:
        stalled.get(timeout=30)
        client.close()

    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(CancelledError) as raised:
        client.models()
    assert raised.value.message == CLOSED
    closing.join()


async def test_closing_ends_the_awaited_calls(target: str, faults: list[Any], stalled: queue.Queue[str]) -> None:
    faults.append("stall")
    client = AsyncClient(target)
    call = asyncio.create_task(client.models(request_id="left-behind"))
    await asyncio.to_thread(stalled.get, timeout=30)
    await client.close()
    with pytest.raises(CancelledError) as raised:
        await call
    assert raised.value.message == CLOSED
    assert raised.value.request_id == "left-behind"


async def test_a_cancelled_task_is_cancelled(target: str, faults: list[Any], stalled: queue.Queue[str]) -> None:
    faults.append("stall")
    async with AsyncClient(target) as client:
        call = asyncio.create_task(client.models())
        await asyncio.to_thread(stalled.get, timeout=30)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert len(await client.models()) == 3


def test_a_given_channel_is_used_and_left_open(target: str) -> None:
    with grpc.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
        with Client("nowhere.invalid:1", channel=channel) as client:
            assert len(client.models()) == 3
        with Client(channel=channel) as client:
            assert len(client.models()) == 3


async def test_a_given_aio_channel_is_used_and_left_open(target: str) -> None:
    async with grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
        async with AsyncClient("nowhere.invalid:1", channel=channel) as client:
            assert len(await client.models()) == 3
        async with AsyncClient(channel=channel) as client:
            assert len(await client.models()) == 3


def test_threads_share_a_client(target: str) -> None:
    results: list[Any] = [None] * 8
    with Client(target) as client:

        def work(seed: int) -> None:
            results[seed] = client.sample("linear", 4, seed=seed).images

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for seed, images in enumerate(results):
            np.testing.assert_array_equal(images, client.sample("linear", 4, seed=seed).images)
