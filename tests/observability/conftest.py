"""A real server that a real Prometheus watches, by the project's rules without their waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml
from prometheus import Prometheus, prometheus
from running_server import channel_to
from server_process import ServerProcess, server_process

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yaml"
FIRING = 'ALERTS{alertstate="firing"}'


@dataclass(frozen=True)
class Watched:
    """A server and the Prometheus that scrapes it."""

    server: ServerProcess
    port: int
    metrics_port: int
    prometheus: Prometheus

    async def until_fires(self, *alerts: str) -> None:
        """Wait until these alerts fire; no others may before."""

        def all_fire(found: list[dict[str, dict[str, str]]]) -> bool:
            names = {one["metric"]["alertname"] for one in found}
            assert names <= set(alerts), names
            return names == set(alerts)

        await self.prometheus.until(FIRING, all_fire)

    async def until_watched(self) -> None:
        """Wait until the server has been scraped some times, and the rules evaluated."""
        await self.prometheus.until("count_over_time(latentserve:failed_calls:budget[1h]) > 3")
        await self.prometheus.until('count_over_time(up{job="latentserve"}[1h]) > 3')


Watch = Callable[..., AbstractAsyncContextManager[Watched]]


@pytest.fixture
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """Starts a server over a repository, with flags, and a Prometheus that scrapes it every second."""

    @asynccontextmanager
    async def watch(repository: Path, *flags: str) -> AsyncIterator[Watched]:
        folder = tmp_path_factory.mktemp("prometheus")
        async with server_process(repository, "--metrics-listen=127.0.0.1:0", *flags) as server:
            ready = await server.log("serving on port")
            target = f"127.0.0.1:{ready['metrics_port']}"
            async with prometheus(folder, target, _without_waits(folder)) as watcher:
                yield Watched(server, ready["port"], ready["metrics_port"], watcher)

    return watch


def _without_waits(folder: Path) -> Path:
    """A copy of the rules whose alerts fire at once; windows and thresholds are as they are."""
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    (copy := folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    return copy


@asynccontextmanager
async def calls_go_on(watched: Watched, *models: str) -> AsyncIterator[None]:
    """Within the block, four callers of each model sample, encode, reconstruct and score without a pause."""
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[Any]] = []
        tasks += [group.create_task(_call_on_and_on(watched.port, model)) for model in models for _ in range(4)]
        tasks.append(group.create_task(watched.server.exit_status()))  # reads the log, of which lines are else dropped
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _call_on_and_on(port: int, name: str) -> None:
    model, images = pb.ModelRef(name=name), pb.Images(tensor=from_ndarray(np.zeros((5, 1, 4, 5), np.uint8)))
    async with channel_to(port) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        while True:
            with suppress(grpc.aio.AioRpcError):
                await stub.Sample(pb.SampleRequest(model=model, count=20))
                await stub.Encode(pb.EncodeRequest(model=model, images=images))
                await stub.Reconstruct(pb.ReconstructRequest(model=model, images=images))
                await stub.Score(pb.ScoreRequest(model=model, images=images))
