"""A running server of the linear model, which does what a test tells it, and clients that call it."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import pytest
from client import fresh_client
from client.linear_model import Generation, Models, Refusal
from grpc import ServicerContext

from latentserve.v1 import generation_pb2_grpc, models_pb2_grpc
from latentserve_client import CHANNEL_OPTIONS, AsyncClient, Client, Samples
from latentserve_client.cli.main import main


@dataclass
class Calls(grpc.ServerInterceptor):
    """Notes every attempt, sends its request id back and answers it with the next fault, if there is one."""

    attempts: list[tuple[str, str, Any]]
    stalled: queue.Queue[str]
    ended: queue.Queue[str]
    faults: list[Any]

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(details)
        request_id = str(dict(details.invocation_metadata)["x-request-id"])
        method = details.method.rpartition("/")[2]

        def begin(request: Any, context: ServicerContext) -> Any:
            self.attempts.append((method, request_id, request))
            context.set_trailing_metadata((("x-request-id", request_id),))
            return self.faults.pop(0) if self.faults else None

        def answer(request: Any, context: ServicerContext) -> Any:
            self._meet(fault := begin(request, context), request_id, context)
            try:
                response = handler.unary_unary(request, context)
            except Refusal as refusal:
                context.abort(*refusal.args)
            if callable(fault):
                fault(response)
            return response

        def stream(request: Any, context: ServicerContext) -> Iterator[Any]:
            context.add_callback(lambda: self.ended.put(request_id))
            fault, after = begin(request, context), 0
            if isinstance(fault, tuple):
                after, fault = fault
            for position, response in enumerate(handler.unary_stream(request, context)):
                if position == after:
                    self._meet(fault, request_id, context)
                if callable(fault) and position == after:
                    fault(response)
                if fault == "end" and position == after:
                    return
                yield response
            if fault == "more":
                yield response

        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                stream, handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)

    def _meet(self, fault: Any, request_id: str, context: ServicerContext) -> None:
        if isinstance(fault, Busy):
            context.set_trailing_metadata((("x-request-id", request_id), ("grpc-retry-pushback-ms", fault.pushback)))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "told to be busy")
        if isinstance(fault, grpc.StatusCode):
            context.abort(fault, f"told to say {fault.name}")
        if fault == "stall":
            context.add_callback((gone := threading.Event()).set)
            self.stalled.put(request_id)
            gone.wait()


@dataclass(frozen=True)
class Busy:
    """The fault of a server that is too busy, and says so many milliseconds."""

    pushback: str


@pytest.fixture
def attempts() -> list[tuple[str, str, Any]]:
    """Method, request id and request of every attempt that reached the server, retries included."""
    return []


@pytest.fixture
def stalled() -> queue.Queue[str]:
    """The request ids of the calls that the server is sitting on."""
    return queue.Queue()


@pytest.fixture
def ended() -> queue.Queue[str]:
    """The request ids of the streams that have ended, however they did."""
    return queue.Queue()


@pytest.fixture
def busy() -> Callable[[str], Busy]:
    """Makes the fault of a server that is too busy from the milliseconds that it says."""
    return Busy


@pytest.fixture
def faults() -> list[Any]:
    """What the server does with the next attempts: a status to say, Busy, "stall", or a function that spoils the reply.

    Of a stream it is done to the first chunk, or to the one that is named before it in a tuple; "end" ends it there,
    and "more" adds a chunk.
    """
    return []


@pytest.fixture
def target(
    attempts: list[tuple[str, str, Any]], stalled: queue.Queue[str], ended: queue.Queue[str], faults: list[Any]
) -> Iterator[str]:
    """The address of a running server."""
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, interceptors=[Calls(attempts, stalled, ended, faults)], options=CHANNEL_OPTIONS)
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(Generation(), server)
        models_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(grace=None).wait()


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "asyncio"])
def invoke(request: pytest.FixtureRequest, target: str) -> Callable[..., Awaitable[Any]]:
    """Calls a method of a fresh client of either kind: `await invoke("sample", "linear", 4, seed=1)`."""
    return partial(fresh_client.call, request.param, target)


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "asyncio"])
def collect(request: pytest.FixtureRequest, target: str) -> Callable[..., Awaitable[list[Samples]]]:
    """Reads a stream of a fresh client of either kind to its end: `await collect("linear", 10, seed=1)`."""

    async def collect(*args: Any, **kwargs: Any) -> list[Samples]:
        if request.param is Client:
            with Client(target) as client:
                return list(client.stream_samples(*args, **kwargs))
        async with AsyncClient(target) as client:
            return [chunk async for chunk in client.stream_samples(*args, **kwargs)]

    return collect


@pytest.fixture
def run(target: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command against the server: exit code, stdout and stderr."""

    def run(*argv: object) -> tuple[int, str, str]:
        code = main(["--server", target, *map(str, argv)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def run_aside(run: Callable[..., tuple[int, str, str]]) -> Callable[..., Awaitable[tuple[int, str, str]]]:
    """As `run`, on a thread: for a server that runs in the test's own event loop."""
    return partial(asyncio.to_thread, run)


@pytest.fixture
def misuse(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """Runs the command with arguments that are wrong usage: what it says, once it has ended with 2."""

    def misuse(argv: list[str]) -> str:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2
        return capsys.readouterr().err

    return misuse
