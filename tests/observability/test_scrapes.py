"""A real Prometheus scrapes a server: the page is as it should be and of all workers, and all records have data."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
import yaml
from model_shelf import Shelf
from observability.conftest import FIRING, RULES, Watch, calls_go_on
from prometheus import promtool
from running_server import channel_to, scrape

from latentserve.v1 import models_pb2, models_pb2_grpc

pytestmark = pytest.mark.slow

GROUPS = yaml.safe_load(RULES.read_text())["groups"]
RECORDS = [rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule]


async def test_every_record_has_data_and_nothing_fires_on_a_server_that_is_well(watch: Watch, shelf: Shelf) -> None:
    async with watch(shelf.root, "--workers=2") as watched:
        async with calls_go_on(watched, "vae"):
            for record in RECORDS:
                found = await watched.prometheus.until(record)
                assert {one["metric"].get("model", "vae") for one in found} == {"vae"}
                assert {one["metric"].get("job", "latentserve") for one in found} == {"latentserve"}
            await watched.until_watched()
        assert watched.prometheus.query(FIRING) == []


@pytest.mark.parametrize("workers", [1, 2])
async def test_promtool_finds_no_fault_in_the_page(watch: Watch, shelf: Shelf, workers: int) -> None:
    async with watch(shelf.root, f"--workers={workers}") as watched:
        async with calls_go_on(watched, "vae"):
            await watched.prometheus.until('latentserve_requests_total{method="Score", code="OK"}')
        assert promtool("check", "metrics", stdin=await asyncio.to_thread(scrape, watched.metrics_port)) == ""


async def test_the_page_is_that_of_all_workers(watch: Watch, shelf: Shelf) -> None:
    async with watch(shelf.root, "--workers=2") as watched, AsyncExitStack() as stack:
        calls, answered = 0, set[int]()
        while answered != {1, 2}:  # which worker has a connection is the kernel's to choose
            channel = await stack.enter_async_context(channel_to(watched.port))
            await models_pb2_grpc.ModelServiceStub(channel).ListModels(models_pb2.ListModelsRequest())
            answered.add((await watched.server.log("ListModels"))["worker"])
            calls += 1
        await watched.prometheus.until(f'sum(latentserve_requests_total{{method="ListModels"}}) == {calls}')
        found = watched.prometheus.query("process_resident_memory_bytes")
        assert {one["metric"]["worker"] for one in found} == {"1", "2", "supervisor"}
