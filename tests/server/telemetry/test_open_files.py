"""Connections are bounded, so that files can still be opened; and a scrape that lasts keeps no place."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any
from wsgiref.types import StartResponse

import grpc
import pytest
from held_graph import BACKSTOP_SECONDS
from model_shelf import Shelf
from refusal import refusal
from running_server import channel_to, running_server, scrape
from server_process import server_process

from latentserve.v1 import models_pb2, models_pb2_grpc
from latentserve_server.telemetry.metrics_listener import MetricsListener

FILES = 256


def opening(soft: int, hard: int) -> Sequence[str]:
    """The program that lets the command it becomes open so many files, and raise that to `hard`.

    `preexec_fn` would do it in a fork of the tests' process, where gRPC's threads for other tests are in the way.
    """
    limit = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))"
    return sys.executable, "-c", f"import os, resource, sys; {limit}; os.execv(sys.argv[1], sys.argv[1:])"


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed it, after what it said."""
    connection.setblocking(False)
    try:
        while connection.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


@pytest.mark.cpu_only("CUDA takes more files than the test leaves")
async def test_idle_connections_leave_files_to_be_opened(shelf: Shelf) -> None:
    with ExitStack() as stack:
        async with server_process(shelf.root, through=opening(FILES, FILES)) as process:
            said = (await process.log("at most"))["message"]
            room = int(said.split()[2])
            assert 64 < room < FILES
            port = (await process.log("serving on port"))["port"]
            async with channel_to(port) as channel:
                stub = models_pb2_grpc.ModelServiceStub(channel)
                await stub.ListModels(models_pb2.ListModelsRequest())
                idle = [
                    stack.enter_context(socket.create_connection(("127.0.0.1", port), BACKSTOP_SECONDS))
                    for _ in range(FILES)
                ]
                shelf.publish(2, 2)
                process.signal(signal.SIGHUP)
                await process.log("vae version 2 is ready")
                async with asyncio.timeout(BACKSTOP_SECONDS):
                    while sum(not is_closed(connection) for connection in idle) > room - 1:
                        await stub.ListModels(models_pb2.ListModelsRequest())


async def test_the_limit_is_raised_where_it_may_be(shelf: Shelf) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with server_process(shelf.root, through=opening(FILES, hard)) as process:
        await process.log("serving on port")
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        assert soft == (1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16))


async def test_too_few_files_for_any_connection_are_one_line(shelf: Shelf) -> None:
    async with server_process(shelf.root, through=opening(64, 64)) as process:
        assert await process.exit_status() == 1
        (line,) = process.complaints()
    assert line == "latentserve-server: this process may open 64 files, which leaves none for connections; allow more"


async def test_a_connection_beyond_the_bound_is_closed_until_another_one_leaves(shelf: Shelf) -> None:
    async with running_server(shelf.root, max_connections=1) as served:
        request = models_pb2.ListModelsRequest()
        await served.models.ListModels(request)
        async with channel_to(served.server.port) as other:
            stub = models_pb2_grpc.ModelServiceStub(other)
            assert (await refusal(stub.ListModels(request))).code() is grpc.StatusCode.UNAVAILABLE
            await served.channel.close()
            await stub.ListModels(request, wait_for_ready=True, timeout=BACKSTOP_SECONDS)


def greet(_: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


@pytest.fixture
def listener(request: pytest.FixtureRequest) -> Iterator[MetricsListener]:
    """One with room for two requests, which last for as many seconds as the test says."""
    listener = MetricsListener("127.0.0.1", 0, greet, max_requests=2, seconds=request.param)
    yield listener
    listener.close()


def connection_to(listener: MetricsListener) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.port), timeout=BACKSTOP_SECONDS)


@pytest.mark.parametrize("listener", [3600], indirect=True)
def test_scrapes_beyond_the_bound_are_closed_at_once(listener: MetricsListener) -> None:
    with connection_to(listener) as first, connection_to(listener) as second:
        with connection_to(listener) as third:
            assert third.recv(1) == b""
        for connection in (first, second):
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert connection.makefile("rb").read().endswith(b"hello")
    assert scrape(listener.port) == "hello"


@pytest.mark.parametrize("listener", [0.01], indirect=True)
@pytest.mark.parametrize("said", [b"", b"GET /metrics", b"GET /metrics HTTP/1.0\r\nX: "])
def test_a_scrape_that_is_not_finished_loses_its_place(listener: MetricsListener, said: bytes) -> None:
    for _ in range(3):
        with connection_to(listener) as first, connection_to(listener) as second:
            for connection in (first, second):
                connection.sendall(said)
            for connection in (first, second):
                while connection.recv(1 << 16):
                    pass


@pytest.mark.parametrize("listener", [3600], indirect=True)
def test_a_scrape_that_is_no_request_is_answered_as_such(
    listener: MetricsListener, capfd: pytest.CaptureFixture[str]
) -> None:
    with connection_to(listener) as connection:
        connection.sendall(b"\xff\xfe\r\n\r\n")
        assert b"400" in connection.makefile("rb").read()
    assert scrape(listener.port) == "hello"
    assert capfd.readouterr().err == ""
