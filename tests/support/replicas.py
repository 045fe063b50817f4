"""Replicas of a server behind one name, as pods are behind a headless Service: processes at addresses of their own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from name_server import NameServer, name_server
from running_server import metric
from server_process import BACKSTOP_SECONDS, ServerProcess, server_process


@dataclass(frozen=True)
class Replica:
    """A server process and where it is."""

    process: ServerProcess
    address: str
    metrics_port: int

    async def answered(self) -> int:
        """Calls of Decode that it has answered."""
        return int(await metric(self.metrics_port, "requests_total", method="Decode", code="OK"))


class Replicas:
    """Server processes over one repository, and the name that leads to those that are ready."""

    def __init__(self, repository: Path, flags: tuple[str, ...], names: NameServer, processes: AsyncExitStack) -> None:
        self._repository = repository
        self._flags = flags
        self._names = names
        self._processes = processes
        self._started = 0
        self._port = 0
        self.ready: list[Replica] = []
        """Those that the name leads to, the oldest first."""

    @property
    def target(self) -> str:
        """What a client is given, to find and balance over all of them."""
        return f"dns://127.0.0.1:{self._names.port}/replicas.test:{self._port}"

    async def add(self) -> Replica:
        """Start one more, and let the name lead to it once it says that it is ready."""
        self._started += 1
        address = f"127.0.1.{self._started}"
        listen = (f"--listen={address}:{self._port}", "--metrics-listen=127.0.0.1:0")
        process = await self._processes.enter_async_context(server_process(self._repository, *listen, *self._flags))
        record = await process.log("serving on port")
        self._port = int(record["port"])
        await until_serving(f"{address}:{self._port}")
        replica = Replica(process, address, int(record["metrics_port"]))
        self.ready.append(replica)
        self._names.addresses.append(address)
        return replica

    async def retire(self, replica: Replica) -> int:
        """Take it out of the name and tell it to stop, as a rollout does at once; returns its exit status."""
        self._forget(replica)
        replica.process.signal(signal.SIGTERM)
        return await replica.process.exit_status()

    async def kill(self, replica: Replica) -> None:
        """End it by SIGKILL; the name leads to it until it has ended."""
        replica.process.signal(signal.SIGKILL)
        await replica.process.exit_status()
        self._forget(replica)

    def _forget(self, replica: Replica) -> None:
        self.ready.remove(replica)
        self._names.addresses.remove(replica.address)


async def until_serving(target: str) -> None:
    """Wait for a server to say that it is ready, as a readiness probe does."""
    async with grpc.aio.insecure_channel(target) as channel, asyncio.timeout(BACKSTOP_SECONDS):
        health: Any = health_pb2_grpc.HealthStub(channel)
        async for reply in health.Watch(health_pb2.HealthCheckRequest()):
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                return


@asynccontextmanager
async def replicas(number: int, repository: Path, *flags: str) -> AsyncIterator[Replicas]:
    """So many replicas that are ready, with options of the server's; killed at the end of the block."""
    async with name_server() as names, AsyncExitStack() as processes:
        made = Replicas(repository, flags, names, processes)
        for _ in range(number):
            await made.add()
        yield made
