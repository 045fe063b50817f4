"""A real Prometheus scrapes a server: the page is as it should be, rules have data, and alerts fire by real faults."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
import yaml
from model_shelf import Shelf
from observability.conftest import FIRING, RULES, Watch, calls_go_on
from prometheus import promtool
from running_server import channel_to, scrape
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc

pytestmark = pytest.mark.slow

GROUPS = yaml.safe_load(RULES.read_text())["groups"]
RECORDS = [rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule]
FAILED = "job_model:latentserve_failed_calls:ratio_1h"


def decoding_that_lasts_like(value: float) -> pb.DecodeRequest:
    latents = np.array([[value, 0, 0]], np.float32)
    return pb.DecodeRequest(model=pb.ModelRef(name="vae"), latents=from_ndarray(latents))


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


async def test_failed_calls_burn_the_budget(watch: Watch, tmp_path: Path) -> None:
    TinyModel(slow=True).write(tmp_path / "vae" / "1")
    async with watch(tmp_path) as watched, channel_to(watched.port) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        await stub.Decode(decoding_that_lasts_like(0))
        await watched.prometheus.until('latentserve_requests_total{code="OK"}')
        for _ in range(20):
            await stub.Decode(decoding_that_lasts_like(0))
        await watched.prometheus.until(f"{FAILED} == 0")
        assert watched.prometheus.query(FIRING) == []
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE_EXCEEDED"):
                await stub.Decode(decoding_that_lasts_like(1e9), timeout=0.1)
        await watched.until_fires("LatentserveFailuresBurnFast", "LatentserveFailuresBurnSlowly")


async def test_a_version_that_does_not_load_is_told_of_until_it_is_mended(watch: Watch, shelf: Shelf) -> None:
    async with watch(shelf.root) as watched:
        await watched.until_watched()
        assert watched.prometheus.query(FIRING) == []
        shelf.publish(2, 2, broken=True)
        watched.server.signal(signal.SIGHUP)
        await watched.until_fires("LatentserveLoadFailed", "LatentserveVersionUnavailable")
        shelf.publish(2, 2)
        watched.server.signal(signal.SIGHUP)
        await watched.prometheus.until(FIRING, lambda found: not found)


async def test_a_server_that_has_gone_is_told_of(watch: Watch, shelf: Shelf) -> None:
    async with watch(shelf.root) as watched:
        await watched.until_watched()
        assert watched.prometheus.query(FIRING) == []
        watched.server.signal(signal.SIGKILL)
        await watched.until_fires("LatentserveNotScraped", "LatentserveNoneScraped")


async def test_a_worker_that_was_started_again_is_told_of(watch: Watch, shelf: Shelf) -> None:
    async with watch(shelf.root, "--workers=2") as watched:
        await watched.until_watched()
        assert watched.prometheus.query(FIRING) == []
        lines = (json.loads(line) for line in watched.server.lines)
        (pid,) = (line["pid"] for line in lines if line.get("worker") == 2 and "pid" in line)
        os.kill(pid, signal.SIGKILL)
        await watched.until_fires("LatentserveWorkersRestart")
