"""Many calls on one client while its server goes away and another comes: none fails that its timeout lets wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from model_shelf import Shelf
from name_server import name_server
from running_server import running_server

from latentserve_client import AsyncClient, CallError, Client, DeadlineExceededError

CALLERS = 48
BACKSTOP_SECONDS = 60
NOTICE_SECONDS = 15.0
"""Within which a client must find the servers of its name when all that it knew have gone."""


class Tally:
    """The calls that were answered and those that failed."""

    def __init__(self) -> None:
        self.errors: list[CallError] = []
        self.enough = threading.Event()
        self._answered = 0
        self._changed = threading.Condition()

    def answer(self) -> None:
        with self._changed:
            self._answered += 1
            self._changed.notify_all()

    async def more(self, calls: int) -> None:
        """So many more calls have been answered, or one has failed."""
        target = self._answered + calls

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: self._answered >= target, BACKSTOP_SECONDS)

        assert await asyncio.to_thread(wait), self.errors[:3]


def call_from_threads(target: str, tally: Tally) -> None:
    def work(client: Client) -> None:
        while not tally.enough.is_set():
            try:
                client.sample("vae", 1, timeout=BACKSTOP_SECONDS)
            except CallError as error:
                tally.errors.append(error)
            else:
                tally.answer()

    with Client(target) as client, ThreadPoolExecutor(CALLERS) as threads:
        list(threads.map(work, [client] * CALLERS))


def call_from_tasks(target: str, tally: Tally) -> None:
    async def work(client: AsyncClient) -> None:
        while not tally.enough.is_set():
            try:
                await client.sample("vae", 1, timeout=BACKSTOP_SECONDS)
            except CallError as error:
                tally.errors.append(error)
            else:
                tally.answer()

    async def main() -> None:
        async with AsyncClient(target) as client, asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(work(client))

    asyncio.run(main())


@asynccontextmanager
async def nobody(port: int) -> AsyncIterator[Callable[[int], Any]]:
    """Nobody who speaks gRPC has the port; what is yielded waits until so many connections were tried."""
    tried: asyncio.Queue[None] = asyncio.Queue()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        tried.put_nowait(None)

    async def wait(connections: int) -> None:
        for _ in range(connections):
            await tried.get()

    async with await asyncio.start_server(refuse, "127.0.0.1", port):
        yield wait


@pytest.mark.parametrize("call", [call_from_threads, call_from_tasks])
async def test_no_call_fails_while_its_server_is_replaced(tmp_path: Path, call: Callable[[str, Tally], None]) -> None:
    shelf, tally = Shelf.of(tmp_path, 1), Tally()
    async with running_server(shelf.root) as first:
        port = first.server.port
        calling = asyncio.create_task(asyncio.to_thread(call, f"127.0.0.1:{port}", tally))
        await tally.more(CALLERS)
    async with nobody(port) as tried:
        await tried(4)
    async with running_server(shelf.root, listen=f"127.0.0.1:{port}"):
        await tally.more(2 * CALLERS)
        tally.enough.set()
        await calling
    assert tally.errors == []


async def test_a_call_waits_no_longer_than_its_timeout(tmp_path: Path) -> None:
    async with running_server(Shelf.of(tmp_path, 1).root) as served:
        target = f"127.0.0.1:{served.server.port}"
        client, awaited = Client(target), AsyncClient(target)
        await asyncio.to_thread(client.models)
        await awaited.models()
    with client:
        with pytest.raises(DeadlineExceededError):
            client.models(timeout=0.2)
        with pytest.raises(DeadlineExceededError):
            next(client.stream_samples("vae", 1, timeout=0.2))
    async with awaited:
        with pytest.raises(DeadlineExceededError):
            await awaited.models(timeout=0.2)
        with pytest.raises(DeadlineExceededError):
            await anext(awaited.stream_samples("vae", 1, timeout=0.2))


async def test_a_client_soon_finds_the_new_servers_of_its_name(tmp_path: Path) -> None:
    root = Shelf.of(tmp_path, 1).root
    async with name_server("127.0.0.1") as names:
        async with running_server(root) as first:
            port = first.server.port
            client = AsyncClient(f"dns://127.0.0.1:{names.port}/replicas.test:{port}")
            await client.models()
            names.addresses[:] = ["127.0.0.2"]
        async with running_server(root, listen=f"127.0.0.2:{port}"), client:
            await client.models(timeout=NOTICE_SECONDS)
