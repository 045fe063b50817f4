"""A collector gets the spans of a real server's calls: their parents, how they ended, and as many as were asked for."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from held_graph import BACKSTOP_SECONDS
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from refusal import refusal
from running_server import RunningServer, channel_to, running_server
from server_process import server_process
from trace_receiver import Received, TraceReceiver, trace_receiver

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = [("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "vendor=7")]
NOT_SAMPLED = [("traceparent", f"00-{TRACE}-{SPAN}-00")]
SAMPLE = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=3)
LIST = models_pb2.ListModelsRequest()


@pytest.fixture
async def receiver() -> AsyncIterator[TraceReceiver]:
    async with trace_receiver() as receiver:
        yield receiver


@asynccontextmanager
async def traced(repository: Path, receiver: TraceReceiver, ratio: float = 1.0) -> AsyncIterator[RunningServer]:
    """A server whose spans have come when the block has ended."""
    async with running_server(repository, trace_ratio=ratio, trace_endpoint=receiver.endpoint) as served:
        yield served


async def test_a_call_continues_its_callers_trace_down_to_the_graph(repository: Path, receiver: TraceReceiver) -> None:
    async with traced(repository, receiver, 1e-12) as served:
        await served.generation.Sample(SAMPLE, metadata=[*SAMPLED, ("x-request-id", "mine")])
    call, queue, batch, run = map(receiver.only, ("Sample", "queue", "batch", "run"))
    assert {span.trace_id for span in receiver.spans} == {TRACE}
    assert call.parent_id == SPAN
    assert call.span.trace_state == "vendor=7"
    assert (queue.parent_id, batch.parent_id, run.parent_id) == (call.span_id, call.span_id, batch.span_id)
    assert batch.links == {call.place}
    assert queue.links == {batch.place}
    assert not any(span.is_error for span in receiver.spans)
    assert [span.name for span in sorted(receiver.spans, key=lambda each: each.span.start_time_unix_nano)] == [
        "latentserve.v1.GenerationService/Sample",
        "queue",
        "batch",
        "run",
    ]
    for inner, outer in ((queue, call), (batch, call), (run, batch)):
        assert outer.span.start_time_unix_nano <= inner.span.start_time_unix_nano
        assert inner.span.end_time_unix_nano <= outer.span.end_time_unix_nano


async def test_spans_say_what_was_called_and_what_ran(repository: Path, receiver: TraceReceiver) -> None:
    async with traced(repository, receiver) as served:
        await served.generation.Sample(SAMPLE, metadata=[("x-request-id", "mine")])
    call = receiver.only("Sample")
    assert call.span.kind == Span.SPAN_KIND_SERVER
    assert call.attributes == {
        "rpc.system": "grpc",
        "rpc.system.name": "grpc",
        "rpc.method": "latentserve.v1.GenerationService/Sample",
        "rpc.response.status_code": "OK",
        "latentserve.request_id": "mine",
        "latentserve.model": "vae",
        "latentserve.version": 1,
        "latentserve.rows": 3,
    }
    graph = {"latentserve.graph": "decoder"}
    assert receiver.only("queue").attributes == {**graph, "latentserve.rows": 3}
    assert receiver.only("run").attributes == graph
    assert receiver.only("batch").attributes == {
        **graph,
        "latentserve.batch.rows": 3,
        "latentserve.batch.padding_rows": 0,
        "latentserve.batch.calls": 1,
    }
    assert call.resource["service.name"] == "latentserve-server"
    assert call.resource["process.pid"] == os.getpid()


async def test_calls_without_a_parent_have_traces_of_their_own(repository: Path, receiver: TraceReceiver) -> None:
    async with traced(repository, receiver) as served:
        await asyncio.gather(*(served.models.ListModels(LIST) for _ in range(5)))
        await served.models.ListModels(LIST, metadata=[("traceparent", "nonsense")])
    assert [span.parent_id for span in receiver.spans] == [""] * 6
    assert len({span.trace_id for span in receiver.spans}) == 6


async def test_every_chunk_of_a_stream_is_in_its_trace(repository: Path, receiver: TraceReceiver) -> None:
    request = pb.StreamSamplesRequest(model=pb.ModelRef(name="vae"), count=6, chunk_rows=2)
    async with traced(repository, receiver) as served:
        async for _ in served.generation.StreamSamples(request):
            pass
    call = receiver.only("StreamSamples")
    assert call.attributes["latentserve.rows"] == 6
    assert [span.parent_id for span in receiver.named("queue")] == [call.span_id] * 3


async def test_a_caller_whose_trace_is_not_sampled_has_no_spans(repository: Path, receiver: TraceReceiver) -> None:
    async with traced(repository, receiver) as served:
        await served.generation.Sample(SAMPLE, metadata=NOT_SAMPLED)
    assert receiver.spans == []


async def test_as_many_calls_are_traced_as_the_ratio_says(repository: Path, receiver: TraceReceiver) -> None:
    async with traced(repository, receiver, 0.5) as served:
        for _ in range(10):
            await asyncio.gather(*(served.models.ListModels(LIST) for _ in range(100)))
    assert 400 < len(receiver.spans) < 600  # within 6 standard deviations


async def test_nothing_is_traced_by_default(repository: Path, receiver: TraceReceiver) -> None:
    async with running_server(repository, trace_endpoint=receiver.endpoint) as served:
        await served.generation.Sample(SAMPLE, metadata=SAMPLED)
    assert receiver.spans == []


async def test_a_call_that_is_refused_is_an_error(repository: Path, receiver: TraceReceiver) -> None:
    wrong = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=0)
    async with traced(repository, receiver) as served:
        error = await refusal(served.generation.Sample(wrong, metadata=SAMPLED))
    _assert_failed(receiver.only("Sample"), "INVALID_ARGUMENT", error.details() or "")
    assert receiver.only("Sample").parent_id == SPAN


async def test_a_call_that_is_refused_unread_is_an_error(repository: Path, receiver: TraceReceiver) -> None:
    async with traced(repository, receiver) as served:
        error = await refusal(served.generation.Sample(SAMPLE, metadata=[("filling", "x" * 20_000)]))
    _assert_failed(receiver.only("Sample"), "INVALID_ARGUMENT", error.details() or "")


async def test_a_call_that_its_deadline_ends_is_an_error(repository: Path, receiver: TraceReceiver) -> None:
    endless = pb.StreamSamplesRequest(model=pb.ModelRef(name="vae"), count=1 << 40)
    async with traced(repository, receiver) as served:
        call = served.generation.StreamSamples(endless, timeout=0.5)
        await call.read()
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    _assert_failed(receiver.only("StreamSamples"), "DEADLINE_EXCEEDED")  # and where it was then, its message says


def _assert_failed(span: Received, code: str, message: str | None = None) -> None:
    assert span.is_error
    assert message is None or span.span.status.message == message
    assert (span.attributes["rpc.response.status_code"], span.attributes["error.type"]) == (code, code)


async def test_the_access_log_has_the_trace_of_a_sampled_call(
    repository: Path, receiver: TraceReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "latentserve_server.wire.answering")
    async with traced(repository, receiver) as served:
        await served.generation.Sample(SAMPLE, metadata=NOT_SAMPLED)
        await served.generation.Sample(SAMPLE)
    plain, sampled = (record.__dict__ for record in caplog.records if record.getMessage() == "Sample OK")
    assert "trace_id" not in plain
    assert sampled["trace_id"] == receiver.only("Sample").trace_id


@pytest.mark.slow
@pytest.mark.parametrize("listens", [False, True], ids=["nobody listens", "nobody answers"])
async def test_a_collector_that_is_away_costs_no_call_and_no_end(repository: Path, *, listens: bool) -> None:
    with socket.socket() as away:
        away.bind(("127.0.0.1", 0))
        if listens:
            away.listen()
        endpoint = f"http://127.0.0.1:{away.getsockname()[1]}"
        async with asyncio.timeout(BACKSTOP_SECONDS):
            async with running_server(repository, trace_ratio=1.0, trace_endpoint=endpoint) as served:
                for _ in range(30):  # more spans than wait at a time
                    await asyncio.gather(*(served.generation.Sample(SAMPLE) for _ in range(50)))
                loop = asyncio.get_running_loop()
                began = loop.time()
    assert loop.time() - began < 10  # and not the half minute that the drain may take


@pytest.mark.slow
async def test_every_worker_sends_its_own_spans(repository: Path, receiver: TraceReceiver) -> None:
    flags = ("--workers=2", "--trace-ratio=1", f"--trace-endpoint={receiver.endpoint}")
    async with server_process(repository, *flags) as process, AsyncExitStack() as stack:
        port = (await process.log("serving on port"))["port"]
        workers = set[int]()
        calls = 0
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while workers != {1, 2}:  # which worker has a connection is the kernel's to choose
                stub = generation_pb2_grpc.GenerationServiceStub(await stack.enter_async_context(channel_to(port)))
                await stub.Sample(SAMPLE)
                calls += 1
                workers.add((await process.log("Sample OK"))["worker"])
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0
    assert len(receiver.named("Sample")) == calls
    assert len({span.resource["service.instance.id"] for span in receiver.spans}) == 2


OFF = """
import asyncio, sys
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.server import Server

async def run():
    server = Server(ServerConfig(repository=sys.argv[1], listen="127.0.0.1:0", metrics_listen="off", device="cpu"))
    await server.start()
    await server.stop()

asyncio.run(run())
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
ABSENT = """
import sys
sys.modules["opentelemetry"] = None  # as where it is not installed
from latentserve_server.cli import main
sys.exit(main())
"""


@pytest.mark.slow
def test_a_server_that_traces_nothing_loads_nothing_for_it(repository: Path) -> None:
    assert _run(OFF, str(repository)).stdout == "[]\n"


@pytest.mark.slow
def test_without_the_extra_the_command_names_it(repository: Path) -> None:
    ended = _run(ABSENT, f"--repository={repository}", "--trace-ratio=0.1", "--listen=127.0.0.1:0", "--device=cpu")
    assert ended.returncode != 0
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("latentserve-server: --trace-ratio 0.1: needs the package latentserve-server[otel]: ")


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: list[Any] = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=BACKSTOP_SECONDS, check=False)
