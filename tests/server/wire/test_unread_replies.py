"""Callers that are slow to read: their replies are not cut off, and what became of their calls is told as it was."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from held_graph import BACKSTOP_SECONDS
from relay import relay_to
from running_server import RunningServer, channel_to, metric, running_server
from server_process import server_process
from tiny_bundle import TinyModel

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc
from latentserve_server.wire.exchange import is_late

LARGE = pb.ModelRef(name="large")
ROWS = 16
"""Rows of images that make four megabytes: more than a connection carries that nobody reads from."""
PROMPT_SECONDS = 15.0
"""What an exit may take on a busy machine."""
STOPPING = "the server is stopping; ask another one"


@pytest.fixture(scope="module")
def large_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    TinyModel(height=256, width=256).write(root / "large" / "1")
    return root


@pytest.fixture
async def served(large_images: Path) -> AsyncIterator[RunningServer]:
    async with running_server(large_images, max_batch_rows=ROWS, metrics_listen="127.0.0.1:0") as server:
        yield server


async def shows(served: RunningServer, value: float, name: str, **labels: str) -> None:
    """Return once a scrape shows the metric's value."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while await served.metric(name, **labels) != value:
            pass


async def test_a_reply_that_is_still_being_sent_is_not_cut_off(served: RunningServer) -> None:
    async with relay_to(served.server.port) as relay, channel_to(relay.port) as channel:
        await models_pb2_grpc.ModelServiceStub(channel).ListModels(models_pb2.ListModelsRequest())
        relay.reading.clear()
        call: Any = generation_pb2_grpc.GenerationServiceStub(channel).Sample(pb.SampleRequest(model=LARGE, count=ROWS))
        await shows(served, 1, "requests_total", method="Sample", code="OK")
        stopping = asyncio.create_task(served.server.stop())
        said = set()
        for _ in range(100):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await served.models.ListModels(models_pb2.ListModelsRequest())
            said.add((caught.value.code(), caught.value.details()))
        assert said == {(grpc.StatusCode.UNAVAILABLE, STOPPING)}
        relay.reading.set()
        assert (await call).images.tensor.shape[0] == ROWS
        await stopping


@asynccontextmanager
async def unread_stream(port: int, **options: Any) -> AsyncIterator[Any]:
    """A stream whose first chunk is being sent, while its second one is made, and nobody reads.

    Only a relay that reads nothing is sure to hold it: gRPC and the kernel both widen their windows for a quick line.
    """
    async with relay_to(port) as relay, channel_to(relay.port) as channel:
        await models_pb2_grpc.ModelServiceStub(channel).ListModels(models_pb2.ListModelsRequest())
        relay.reading.clear()
        request = pb.StreamSamplesRequest(model=LARGE, count=1 << 40, chunk_rows=ROWS)
        yield generation_pb2_grpc.GenerationServiceStub(channel).StreamSamples(request, **options)
        relay.reading.set()


async def test_a_stream_that_is_cancelled_unread_is_counted_as_cancelled(
    served: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with unread_stream(served.server.port, timeout=600.0) as stream:
        await shows(served, 2, "batch_rows_count", graph="decoder")
        stream.cancel()
        await shows(served, 1, "requests_total", method="StreamSamples")
    assert await served.metric("requests_total", method="StreamSamples", code="CANCELLED") == 1
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_stream_whose_deadline_passes_unread_is_counted_as_such(served: RunningServer) -> None:
    async with unread_stream(served.server.port, timeout=2.0) as stream:
        assert await stream.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await shows(served, 1, "requests_total", method="StreamSamples")
    assert await served.metric("requests_total", method="StreamSamples", code="DEADLINE_EXCEEDED") == 1


async def test_a_stream_that_nobody_reads_ends_after_a_while_and_holds_up_nothing(large_images: Path) -> None:
    options = {"max_batch_rows": ROWS, "metrics_listen": "127.0.0.1:0", "drain_timeout": 4 * BACKSTOP_SECONDS}
    async with running_server(large_images, max_calls=1, unread_timeout=0.2, **options) as served:
        async with unread_stream(served.server.port) as stream:
            await shows(served, 1, "requests_total", method="StreamSamples", code="UNAVAILABLE")
            assert await served.metric("requests_in_flight") == 0
            assert (await served.models.ListModels(models_pb2.ListModelsRequest())).models
            async with asyncio.timeout(BACKSTOP_SECONDS):
                await served.server.stop()
            stream.cancel()


async def test_a_stream_that_is_read_after_it_was_given_up_says_so_and_may_be_resumed(large_images: Path) -> None:
    options = {"max_batch_rows": ROWS, "metrics_listen": "127.0.0.1:0", "unread_timeout": 0.2}
    async with running_server(large_images, **options) as served:
        request = pb.StreamSamplesRequest(model=LARGE, count=1 << 40, chunk_rows=ROWS)
        stream: Any = served.generation.StreamSamples(request)
        await shows(served, 1, "requests_total", method="StreamSamples", code="UNAVAILABLE")
        arrived: list[int] = []
        with suppress(grpc.aio.AioRpcError):
            async for chunk in stream:
                arrived.append(chunk.first_index)
        assert arrived == [ROWS * i for i in range(len(arrived))]
        assert (await stream.code(), await stream.details()) == (
            grpc.StatusCode.UNAVAILABLE,
            "nobody read the stream for 0.2 s",
        )


async def test_a_stream_that_is_cut_off_while_a_chunk_waits_says_so(large_images: Path) -> None:
    options = {"max_batch_rows": ROWS, "metrics_listen": "127.0.0.1:0", "drain_timeout": 0}
    async with running_server(large_images, **options) as served:
        request = pb.StreamSamplesRequest(model=LARGE, count=1 << 40, chunk_rows=ROWS)
        stream: Any = served.generation.StreamSamples(request)
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while await served.metric("batch_rows_count", graph="decoder") < 2:
                pass
        stopping = asyncio.create_task(served.server.stop())
        with suppress(grpc.aio.AioRpcError):
            async for _ in stream:
                pass
        assert await stream.code() is grpc.StatusCode.UNAVAILABLE
        await stopping


async def test_a_stream_that_nobody_reads_does_not_hold_up_the_stop(large_images: Path) -> None:
    flags = ("--metrics-listen=127.0.0.1:0", f"--max-batch-rows={ROWS}", "--drain-timeout=0")
    async with server_process(large_images, *flags) as process:
        ready = await process.log("serving on port")
        async with unread_stream(ready["port"]) as stream:
            async with asyncio.timeout(BACKSTOP_SECONDS):
                while await metric(ready["metrics_port"], "batch_rows_count", graph="decoder") < 2:
                    pass
            process.signal(signal.SIGTERM)
            async with asyncio.timeout(PROMPT_SECONDS):
                assert await process.exit_status() == 0
            stream.cancel()
        assert not process.complaints()
        assert not [line for line in process.lines if '"ERROR"' in line]


@pytest.mark.parametrize(
    ("allowed", "remaining", "late"),
    [
        (None, None, False),
        (10.0, 5.0, False),
        (10.0, 0.09, True),
        (10.0, -0.01, True),
        (0.02, 0.01, False),
        (0.02, 0.001, True),
        (3600.0, 30.0, False),
        (3600.0, 0.9, True),
    ],
)
def test_a_call_is_late_that_ends_within_what_grpc_rounds(
    allowed: float | None, remaining: float | None, late: bool
) -> None:
    assert is_late(allowed, remaining) is late
