"""A log that nobody reads, or that cannot be written, holds nothing up; what was lost of it is told."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from held_graph import BACKSTOP_SECONDS
from running_server import channel_to, metric
from server_process import ServerProcess, server_process

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc
from latentserve_server.telemetry.log_writer import LineStream, LogWriter

pytestmark = pytest.mark.slow

CALLS = 2_000
SMALL = 4096
"""Bytes that the smallest pipe holds."""
DROPPED = "log_lines_dropped_total"


class Subject:
    """A server process whose log is read where the test says so."""

    def __init__(self, process: ServerProcess, log: BufferedReader) -> None:
        self.process = process
        self.port = self.metrics_port = 0
        self.log = log

    async def says(self, beginning: str) -> dict[str, Any]:
        """The next line whose message begins so, after all before it were read."""
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while line := await asyncio.to_thread(self.log.readline):
                record: dict[str, Any] = json.loads(line)
                if record["message"].startswith(beginning):
                    return record
        raise AssertionError(f"the server ended without saying {beginning!r}")

    async def answers(self, calls: int) -> None:
        """Have so many calls answered, and find the server healthy."""
        async with channel_to(self.port) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            request = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1)
            health: Any = health_pb2_grpc.HealthStub(channel)
            async with asyncio.timeout(BACKSTOP_SECONDS):
                for _ in range(calls // 100):
                    await asyncio.gather(*(stub.Sample(request) for _ in range(100)))
                status = await health.Check(health_pb2.HealthCheckRequest())
                assert status.status == health_pb2.HealthCheckResponse.SERVING

    async def fills_up(self) -> None:
        """Have lines logged until some are dropped; they are long, for calls of models with long names."""
        async with channel_to(self.port) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            request = pb.SampleRequest(model=pb.ModelRef(name="a" * 900), count=1)
            async with asyncio.timeout(BACKSTOP_SECONDS):
                while not await self.dropped():
                    await asyncio.gather(*(stub.Sample(request) for _ in range(100)), return_exceptions=True)

    async def dropped(self) -> float:
        return await metric(self.metrics_port, DROPPED)


@asynccontextmanager
async def subject(repository: Path, *flags: str) -> AsyncIterator[Subject]:
    """A server that has just said that it serves, and whose log is a pipe as small as can be."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALL)
    flags = ("--metrics-listen=127.0.0.1:0", *flags)
    with os.fdopen(reader, "rb") as log:
        async with server_process(repository, *flags, stderr=writer) as process:
            os.close(writer)
            one = Subject(process, log)
            ready = await one.says("serving on port")
            one.port, one.metrics_port = ready["port"], ready["metrics_port"]
            yield one


async def test_calls_are_answered_and_the_process_ends_while_nobody_reads_its_log(repository: Path) -> None:
    async with subject(repository) as one:
        await one.fills_up()
        await one.answers(CALLS)
        one.process.signal(signal.SIGTERM)
        assert await one.process.exit_status() == 0


async def test_what_grpc_prints_by_itself_holds_nothing_up_either(repository: Path) -> None:
    async with subject(repository) as one, channel_to(one.port) as channel:
        await one.fills_up()
        health: Any = health_pb2_grpc.HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest())
        limits = resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (0, limits[1]))
        with socket.create_connection(("127.0.0.1", one.port)):  # which cannot be accepted, as gRPC says
            async with asyncio.timeout(BACKSTOP_SECONDS):
                for _ in range(CALLS):
                    reply = await health.Check(health_pb2.HealthCheckRequest())
                    assert reply.status == health_pb2.HealthCheckResponse.SERVING
            resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, limits)
            await one.answers(100)


async def test_the_log_says_how_many_lines_are_missing_once_it_is_read_again(repository: Path) -> None:
    async with subject(repository) as one:
        await one.fills_up()
        dropped = await one.dropped()
        notice = await one.says(f"{dropped:.0f} log lines were dropped")
        assert (notice["level"], notice["dropped"]) == ("WARNING", dropped)
        await one.answers(100)
        assert (await one.says("Sample OK"))["method"] == "Sample"


async def test_a_log_whose_reader_has_gone_stops_nothing(repository: Path) -> None:
    async with subject(repository) as one:
        one.log.close()
        await one.answers(200)
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while await one.dropped() < 200:
                pass
        one.process.signal(signal.SIGTERM)
        assert await one.process.exit_status() == 0


async def test_a_full_disk_stops_nothing(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    descriptor = os.open("/dev/full", os.O_WRONLY)
    async with server_process(repository, f"--listen=127.0.0.1:{port}", stderr=descriptor) as process:
        os.close(descriptor)
        async with channel_to(port) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            request = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1)
            while True:
                with suppress(grpc.aio.AioRpcError):  # the model is still loading
                    await stub.Sample(request, wait_for_ready=True)
                    break
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0


@pytest.fixture
def pipe() -> Iterator[tuple[BufferedReader, int]]:
    """A small pipe; both ends are closed afterwards."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALL)
    with os.fdopen(reader, "rb") as log:
        yield log, writer
        os.close(writer)


def notice(dropped: int) -> str:
    return f"{dropped} missing"


def test_lines_are_written_in_order_and_the_last_ones_before_the_end(pipe: tuple[BufferedReader, int]) -> None:
    log, descriptor = pipe
    writer = LogWriter(descriptor, notice)
    writer.start()
    expected = [f"line {i}" for i in range(200)]
    for line in expected:
        writer.put(line)
    writer.close(BACKSTOP_SECONDS)
    assert log.read1().decode().splitlines() == expected
    assert writer.dropped == 0


@pytest.mark.parametrize("blocking", [True, False])
def test_what_does_not_fit_is_dropped_and_told(pipe: tuple[BufferedReader, int], blocking: bool) -> None:
    log, descriptor = pipe
    os.set_blocking(descriptor, blocking)
    writer = LogWriter(descriptor, notice, max_bytes=3 * SMALL)
    writer.start()
    fitting = 0
    while not writer.dropped:
        writer.put(f"line {fitting}")
        fitting += 1
    for i in range(fitting - 1):
        assert log.readline().decode() == f"line {i}\n"
    assert log.readline().decode() == f"{notice(1)}\n"
    writer.put("the next line")
    assert log.readline().decode() == "the next line\n"
    writer.close(BACKSTOP_SECONDS)


def test_lines_that_fail_are_counted_without_notices(pipe: tuple[BufferedReader, int]) -> None:
    log, descriptor = pipe
    log.close()
    writer = LogWriter(descriptor, notice)
    writer.start()
    for _ in range(10):
        writer.put("a line")
    writer.close(BACKSTOP_SECONDS)
    assert writer.dropped == 10


def test_an_end_that_nobody_reads_does_not_wait_for_long(pipe: tuple[BufferedReader, int]) -> None:
    _, descriptor = pipe
    writer = LogWriter(os.dup(descriptor), notice)
    writer.start()
    for _ in range(2 * SMALL):
        writer.put("a line")
    writer.close(0.01)
    writer.put("too late")
    assert writer.dropped == 1


def test_what_is_printed_comes_out_in_whole_lines(pipe: tuple[BufferedReader, int]) -> None:
    log, descriptor = pipe
    writer = LogWriter(descriptor, notice)
    writer.start()
    stream = LineStream(writer)
    print("one", "two", file=stream)
    stream.write("three\nfo")
    print("ur", end="\n\n", file=stream, flush=True)
    writer.close(BACKSTOP_SECONDS)
    assert log.read1() == b"one two\nthree\nfour\n\n"
