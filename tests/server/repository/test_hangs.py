"""A store, a disk or a runtime that hangs: looks and loads have time limits, and the process ends all the same."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from admin_server import READY, UNAVAILABLE, admin_server, refusal
from held_store import HeldStore
from held_work import HeldWork
from model_shelf import Shelf
from running_server import config_for
from server_process import server_process
from tiny_bundle import TinyModel

from latentserve_server.blocking_calls import BlockingCalls, on_thread
from latentserve_server.engine.device import DeviceQueue, EngineThread
from latentserve_server.errors import is_passing
from latentserve_server.repository.store import Catalog
from latentserve_server.server import Server

PROMPT_SECONDS = 15.0
"""What an exit may take on a busy machine, where a wait for the store or the runtime would take longer or for good."""


class Silence:
    """A service that takes connections and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._taken: list[socket.socket] = []
        port = self._listener.getsockname()[1]
        self.variables = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def take(self) -> None:
        """Wait for a connection."""
        self._taken.append(self._listener.accept()[0])

    def close(self) -> None:
        """Take no more."""
        for one in (*self._taken, self._listener):
            one.close()


@pytest.fixture
def silence() -> Iterator[Silence]:
    silence = Silence()
    yield silence
    silence.close()


@pytest.mark.slow
async def test_a_process_whose_store_hangs_ends_when_it_is_told_to(silence: Silence) -> None:
    async with server_process("s3://models/team", variables=silence.variables) as process:
        async with asyncio.timeout(PROMPT_SECONDS):
            await asyncio.to_thread(silence.take)
            process.signal(signal.SIGTERM)
            assert await process.exit_status() == 0
        assert process.complaints() == []


@pytest.mark.slow
async def test_a_store_that_does_not_answer_in_time_does_not_start(silence: Silence) -> None:
    async with server_process("s3://models/team", "--scan-timeout=0.5", variables=silence.variables) as process:
        async with asyncio.timeout(PROMPT_SECONDS):
            assert await process.exit_status() == 1
        (line,) = process.complaints()
        assert line == "latentserve-server: s3://models/team: cannot be read: it did not answer within 0.5 s"


class HeldCatalog(HeldStore):
    """A store of which the second look is held."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, version=0)
        self.work = HeldWork()
        self._looks = 0

    def catalog(self) -> Catalog:
        self._looks += 1
        if self._looks == 2:
            self.work.hold()
        return super().catalog()


async def test_a_look_has_a_time_limit(shelf: Shelf) -> None:
    store = HeldCatalog(shelf.root)
    options: dict[str, Any] = {"store": store, "scan_timeout": 0.1, "metrics_listen": "127.0.0.1:0"}
    async with admin_server(shelf, **options) as server:
        shelf.publish(2, 2)
        place = f"{shelf.root}: cannot be read"
        assert await refusal(server.rescan()) == f"{place}: it did not answer within 0.1 s"
        assert await server.served.metric("repository_unreadable") == 1
        assert await refusal(server.rescan()) == f"{place}: an earlier call has not ended yet"
        assert await server.answering() == (1, 1)
        store.work.open()
        while (await server.states()).get(2) != (READY, ""):  # by itself, as a look is owed
            pass
        assert await server.served.metric("repository_unreadable") == 0


async def test_a_fetch_has_a_time_limit(shelf: Shelf) -> None:
    store = HeldStore(shelf.root, version=2)
    options: dict[str, Any] = {"store": store, "load_timeout": 0.5, "metrics_listen": "127.0.0.1:0"}
    async with admin_server(shelf, **options) as server:
        shelf.publish(2, 2)
        await server.rescan()
        assert (await server.states())[2] == (UNAVAILABLE, "it was not loaded within 0.5 s")
        assert await server.served.metric("model_loads_total", result="failure") == 1
        assert await server.answering() == (1, 1)
        await server.rescan()
        assert (await server.states())[2] == (UNAVAILABLE, "an earlier call has not ended yet")
        store.let()
        while (await server.states())[2] != (READY, ""):  # by itself, as a time limit may be kept the next time
            pass
        assert await server.answering() == (2, 2)


async def test_a_stop_waits_for_no_fetch(shelf: Shelf) -> None:
    store = HeldStore(shelf.root, version=1)
    server = Server(config_for(shelf.root), store)
    start = asyncio.ensure_future(server.start())
    await store.asked()
    start.cancel()
    async with asyncio.timeout(PROMPT_SECONDS):
        await server.stop()
    assert [thread for thread in threading.enumerate() if "fetch" in thread.name and thread.daemon]
    store.let()


@pytest.mark.slow
async def test_a_graph_that_runs_for_too_long_is_not_loaded(tmp_path: Path) -> None:
    def make_endless(golden: dict[str, Any]) -> None:
        golden["decoder.latent"][:, 0] = 2e9

    TinyModel(slow=True).write(tmp_path / "slow" / "1", edit_golden=make_endless)
    async with server_process(tmp_path, "--load-timeout=0.5") as process:
        line = await process.log("slow version 1 is unavailable: it was not loaded within 0.5 s")
        assert line["level"] == "ERROR"
        async with asyncio.timeout(PROMPT_SECONDS):
            assert await process.exit_status() == 1
        (line,) = process.complaints()
        assert "slow/1: " in line


@contextmanager
def few_threads() -> Iterator[None]:
    """Let a process that is started have some 40 threads, by the memory that their stacks take."""
    limits = {resource.RLIMIT_STACK: 1 << 30, resource.RLIMIT_AS: 40 << 30}
    before = {kind: resource.getrlimit(kind) for kind in limits}
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, before[kind][1]))
    try:
        yield
    finally:
        for kind in limits:
            resource.setrlimit(kind, before[kind])


@pytest.mark.cpu_only("CUDA takes more addresses than the test leaves")
@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--load-timeout=1", "--load-timeout=1000"])
async def test_a_runtime_that_hangs_for_want_of_threads_holds_up_no_end(shelf: Shelf, flag: str) -> None:
    async with AsyncExitStack() as stack:
        with few_threads():
            process = await stack.enter_async_context(server_process(shelf.root, "--cpu-threads=64", flag))
        await process.log("loading vae version 1")
        async with asyncio.timeout(PROMPT_SECONDS):
            if flag == "--load-timeout=1":
                await process.log("vae version 1 is unavailable: it was not loaded within 1 s")
                assert await process.exit_status() == 1
            else:
                process.signal(signal.SIGTERM)
                assert "engine-vae-1" in (await process.log("threads that have not ended are left behind: "))["message"]
                assert await process.exit_status() == 0
                assert process.complaints() == []


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    """Have threads want stacks for which there is no room."""
    size = threading.stack_size(1 << 46)
    yield
    threading.stack_size(size)


@pytest.mark.usefixtures("no_thread_left")
async def test_what_wants_a_thread_where_there_is_none_may_pass() -> None:
    for start in (lambda: on_thread("call", int), lambda: BlockingCalls(1).make("call", int)):
        with pytest.raises(OSError, match="no further thread can be started") as caught:
            await start()
        assert is_passing(caught.value)
    with pytest.raises(OSError, match="no further thread can be started"):
        EngineThread("engine", DeviceQueue(None)).submit_alone(int)
