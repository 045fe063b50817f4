"""How streams of samples end: read to the end, left by their reader, cancelled or closed."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any

import pytest

from latentserve_client import AsyncClient, CancelledError, Client, ClosedError

Attempts = list[tuple[str, str, Any]]


def test_a_reader_that_stops_ends_the_call(target: str, ended: queue.Queue[str]) -> None:
    with Client(target) as client:
        with client.stream_samples("linear", 2**40, request_id="left") as stream:
            assert (next(stream).first_index, stream.next_index) == (0, 4)
        assert ended.get(timeout=30) == "left"
        with pytest.raises(ClosedError) as raised:
            next(stream)
        assert str(raised.value) == "the stream is closed"
        for chunk in client.stream_samples("linear", 2**40, request_id="forgotten"):
            assert len(chunk.images) == 4
            break
        assert ended.get(timeout=30) == "forgotten"


async def test_an_asynchronous_reader_that_stops_ends_the_call(target: str, ended: queue.Queue[str]) -> None:
    async with AsyncClient(target) as client:
        async with client.stream_samples("linear", 2**40, request_id="left") as stream:
            assert ((await anext(stream)).first_index, stream.next_index) == (0, 4)
        assert await asyncio.to_thread(ended.get, timeout=30) == "left"
        with pytest.raises(ClosedError):
            await anext(stream)


async def test_cancelling_the_reading_task_ends_the_call(
    target: str, faults: list[Any], stalled: queue.Queue[str], ended: queue.Queue[str]
) -> None:
    faults.append((1, "stall"))
    async with AsyncClient(target) as client:
        stream = client.stream_samples("linear", 100, request_id="cancelled")
        await anext(stream)
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(stalled.get, timeout=30)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await asyncio.to_thread(ended.get, timeout=30) == "cancelled"
        with pytest.raises(ClosedError):
            await anext(stream)


@pytest.mark.parametrize("what", ["stream", "client"])
def test_closing_from_another_thread_is_an_error_for_the_reader(
    target: str, faults: list[Any], attempts: Attempts, stalled: queue.Queue[str], what: str
) -> None:
    faults.append("stall")
    client = Client(target)
    stream = client.stream_samples("linear", 100)

    def close() -> None:
        stalled.get(timeout=30)
        (stream if what == "stream" else client).close()

    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(CancelledError) as raised:
        next(stream)
    assert raised.value.message == "the stream was closed while it was read"
    closing.join()
    client.close()
    assert len(attempts) == 1


@pytest.mark.parametrize("what", ["stream", "client"])
async def test_closing_from_another_task_is_an_error_for_the_reader(
    target: str, faults: list[Any], stalled: queue.Queue[str], what: str
) -> None:
    faults.append("stall")
    async with AsyncClient(target) as client:
        stream = client.stream_samples("linear", 100)
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(stalled.get, timeout=30)
        if what == "stream":
            stream.close()
        else:
            await client.close()
        with pytest.raises(CancelledError) as raised:
            await reading
        assert raised.value.method == "StreamSamples"


async def test_a_stream_that_is_read_ends_well(target: str, ended: queue.Queue[str]) -> None:
    with Client(target) as client:
        stream = client.stream_samples("linear", 8, request_id="read")
        assert [chunk.first_index for chunk in stream] == [0, 4]
        assert ended.get(timeout=30) == "read"
        stream.close()
        assert list(stream) == []
        client.close()
        with pytest.raises(ClosedError):
            client.stream_samples("linear", 8)
