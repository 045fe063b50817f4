"""Alerts of a real Prometheus fire by real faults of a server, and not before."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from model_shelf import Shelf
from observability.conftest import FIRING, Watch
from running_server import channel_to
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc

pytestmark = pytest.mark.slow

FAILED = "job_model:latentserve_failed_calls:ratio_1h"


def decoding_that_lasts_like(value: float) -> pb.DecodeRequest:
    latents = np.array([[value, 0, 0]], np.float32)
    return pb.DecodeRequest(model=pb.ModelRef(name="vae"), latents=from_ndarray(latents))


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


async def test_calls_that_memory_refuses_are_told_of(watch: Watch, tmp_path: Path) -> None:
    TinyModel(slow=True).write(tmp_path / "vae" / "1")
    async with watch(tmp_path, "--max-memory-share=1e-6") as watched, channel_to(watched.port) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        await stub.Decode(decoding_that_lasts_like(0))  # alone, it may take what it wants
        await watched.until_watched()
        assert watched.prometheus.query(FIRING) == []
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(refused_again_and_again(stub)) for _ in range(2)]
            burns = ("LatentserveFailuresBurnFast", "LatentserveFailuresBurnSlowly")
            await watched.until_fires("LatentserveMemoryRefusesCalls", *burns)
            for call in calls:
                call.cancel()


async def refused_again_and_again(stub: generation_pb2_grpc.GenerationServiceStub) -> None:
    while True:
        with suppress(grpc.aio.AioRpcError):
            await stub.Decode(decoding_that_lasts_like(0))


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
