"""A real server on free ports of the running event loop, with the stubs that call it and the metrics it shows."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from tested_device import device

from latentserve.v1 import generation_pb2_grpc, models_pb2_grpc
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.repository.store import ModelStore
from latentserve_server.server import Server

DEFAULTS: dict[str, Any] = {"listen": "127.0.0.1:0", "metrics_listen": "off", "cpu_threads": 1}
"""What every test's server is configured with, beside its device."""


class RunningServer:
    """A started server and a channel to it."""

    def __init__(self, server: Server, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.channel = channel
        self.generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self.models = models_pb2_grpc.ModelServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def metric(self, name: str, **labels: str) -> float:
        """As `metric` below."""
        return await metric(self.server.metrics_port, name, **labels)


async def metric(port: int, name: str, **labels: str) -> float:
    """The sum, over its samples with these labels, of the metric that a scrape shows now; 0 where it has none."""
    families = text_string_to_metric_families(await asyncio.to_thread(scrape, port))
    samples = [sample for family in families for sample in family.samples if sample.name == f"latentserve_{name}"]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def scrape(port: int, query: str = "", context: ssl.SSLContext | None = None, accept: str = "*/*") -> str:
    """The text of /metrics, by https where there is a context, of a type that `accept` names."""
    connection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        if context is None
        else http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    )
    try:
        connection.request("GET", f"/metrics{query}", headers={"Accept": accept})
        reply = connection.getresponse()
        assert reply.status == 200
        return reply.read().decode()
    finally:
        connection.close()


def config_for(repository: Path | str, **options: Any) -> ServerConfig:
    """A configuration for a test: a free port, no metrics (to stop them takes half a second), one thread."""
    return ServerConfig(repository=str(repository), **({"device": device()} | DEFAULTS | options))


def channel_to(port: int) -> grpc.aio.Channel:
    """A channel to a server on this machine, with room for its largest replies and a connection of its own."""
    options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options)


@asynccontextmanager
async def running_server(
    repository: Path | str, *, store: ModelStore | None = None, **options: Any
) -> AsyncIterator[RunningServer]:
    """A server over the repository, started before the block and stopped after it."""
    server = Server(config_for(repository, **options), store)
    try:
        await server.start()
        async with channel_to(server.port) as channel:
            yield RunningServer(server, channel)
    finally:
        await server.stop()
