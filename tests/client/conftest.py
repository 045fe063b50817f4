"""A server of canned replies, which does what a test tells it, and clients that call it."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from client import fresh_client
from client.scripted_server import Busy, Script, scripted_server

from latentserve_client import AsyncClient, Client, Samples
from latentserve_client.cli.main import main


@pytest.fixture
def script() -> Script:
    """What the server does, and what it has seen."""
    return Script()


@pytest.fixture
def target(script: Script) -> Iterator[str]:
    """The address of a running server."""
    with scripted_server(script) as address:
        yield address


@pytest.fixture
def attempts(script: Script) -> list[tuple[str, str, Any]]:
    """Method, request id and request of every attempt that reached the server, retries included."""
    return script.attempts


@pytest.fixture
def faults(script: Script) -> list[Any]:
    """What the server does with the next attempts, as Script has it."""
    return script.faults


@pytest.fixture
def stalled(script: Script) -> queue.Queue[str]:
    """The request ids of the calls that the server is sitting on."""
    return script.stalled


@pytest.fixture
def ended(script: Script) -> queue.Queue[str]:
    """The request ids of the streams that have ended, however they did."""
    return script.ended


@pytest.fixture
def busy() -> Callable[[str], Busy]:
    """Makes the fault of a server that is too busy from the milliseconds that it says."""
    return Busy


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
