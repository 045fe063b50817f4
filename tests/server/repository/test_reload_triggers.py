"""SIGHUP and polling make the command follow its repository."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest
from admin_server import SEEDS
from model_shelf import Shelf, reconstruction, seed_of
from running_server import channel_to
from server_process import BACKSTOP_SECONDS, server_process

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc

pytestmark = pytest.mark.slow

VAE = pb.ModelRef(name="vae")


async def sampled(port: int) -> tuple[int, int]:
    async with channel_to(port) as channel:
        reply = await generation_pb2_grpc.GenerationServiceStub(channel).Reconstruct(reconstruction(VAE))
        return reply.served.version, seed_of(reply, SEEDS)


async def test_sighup_follows_the_repository(shelf: Shelf) -> None:
    async with server_process(shelf.root) as process:
        port = (await process.log("serving on port"))["port"]
        shelf.publish(2, 2, broken=True)
        process.signal(signal.SIGHUP)
        await process.log("vae version 2 is unavailable")
        assert await sampled(port) == (1, 1)
        shelf.publish(2, 2)
        process.signal(signal.SIGHUP)
        await process.log("vae version 2 is ready")
        await process.log("unloading vae version 1")
        assert await sampled(port) == (2, 2)
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0


async def test_a_sighup_before_the_server_stands_does_not_end_it(shelf: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    os.mkfifo(file)
    async with server_process(shelf.root, f"--config={file}") as process:
        async with asyncio.timeout(BACKSTOP_SECONDS):
            config = await asyncio.to_thread(file.open, "w")  # which waits for the command to read its configuration
        process.signal(signal.SIGHUP)
        config.write("log_level: info")
        config.close()
        assert await sampled((await process.log("serving on port"))["port"]) == (1, 1)


async def test_polling_follows_the_repository_and_tells_of_a_broken_manifest_once(shelf: Shelf) -> None:
    async with server_process(shelf.root, "--poll-interval=0.1", "--removal-delay=0") as process:
        port = (await process.log("serving on port"))["port"]
        shelf.publish(2, 2, broken=True)
        await process.log("vae version 2 is unavailable")
        (shelf.model / "nonsense").mkdir()
        await process.log("ignored: vae/nonsense")  # a later look, which met the broken version again
        shelf.publish(3, 3)
        await process.log("vae version 3 is ready")
        assert await sampled(port) == (3, 3)
        shutil.rmtree(shelf.model / "nonsense")
        shelf.publish(2, 4, broken=True)
        shelf.remove(3)
        await process.log("vae version 1 is ready")
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0
        messages = [line for line in process.lines if "vae version 2 is unavailable" in line]
        assert len(messages) == 2
