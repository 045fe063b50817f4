"""A server that follows its repository while it serves: what comes, what changes, what breaks, what goes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import grpc
import numpy as np
import pytest
from admin_server import READY, SEEDS, UNAVAILABLE, UNLOADING, AdminServer, admin_server, refusal
from held_graph import BACKSTOP_SECONDS
from model_shelf import BROKEN, Shelf, reconstruction, seed_of, write
from running_server import channel_to
from server_process import server_process
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2

VAE = pb.ModelRef(name="vae")
UNWANTED = UNAVAILABLE, "the version policy latest:1 does not want it"
SOME_TURNS = 50_000


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Version 1, with the model of seed 1."""
    shelf = Shelf(tmp_path)
    shelf.publish(1, 1)
    return shelf


@pytest.fixture
async def server(shelf: Shelf) -> AsyncIterator[AdminServer]:
    async with admin_server(shelf) as server:
        yield server


@pytest.fixture
async def measured(shelf: Shelf) -> AsyncIterator[AdminServer]:
    """As `server`, with metrics, which take half a second to stop."""
    async with admin_server(shelf, metrics_listen="127.0.0.1:0") as server:
        yield server


def engine_threads() -> set[str]:
    """The versions that have an engine's thread."""
    return {thread.name.split("_")[0] for thread in threading.enumerate() if thread.name.startswith("engine-vae-")}


@contextmanager
def held_loading(shelf: Shelf, version: int, seed: int) -> Iterator[tuple[Path, bytes]]:
    """Publishes a version whose decoder is a pipe, so that it loads until someone writes there what it reads."""

    def write_held(place: Path) -> None:
        decoder = write(place, seed) / "decoder.onnx"
        decoder.rename(shelf.root / "held.onnx")
        os.mkfifo(decoder)

    decoder = shelf.publish_written(version, write_held) / "decoder.onnx"
    yield decoder, (shelf.root / "held.onnx").read_bytes()


async def opened(pipe: Path) -> BinaryIO:
    """The pipe's end to write to, once the server reads from it."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        return await asyncio.to_thread(pipe.open, "wb")


async def test_a_new_version_takes_over_and_the_old_one_leaves(shelf: Shelf, server: AdminServer) -> None:
    assert await server.answering() == (1, 1)
    shelf.publish(2, 2)
    assert await server.answering() == (1, 1)
    await server.rescan()
    assert await server.answering() == (2, 2)
    await server.unload(1)  # returns once it is closed
    assert (await server.states())[2] == (READY, "")
    assert engine_threads() == {"engine-vae-2"}


async def test_a_directory_replaced_in_place_is_reloaded(shelf: Shelf, measured: AdminServer) -> None:
    digest = (await measured.served.models.GetModel(models_pb2.GetModelRequest(model=VAE))).model.digest
    shelf.publish(1, 5)
    await measured.rescan()
    assert await measured.answering() == (1, 5)
    described = (await measured.served.models.GetModel(models_pb2.GetModelRequest(model=VAE))).model
    assert described.digest != digest
    assert await measured.served.metric("model_info", digest=described.digest) == 1
    assert await measured.served.metric("model_info") == 1


async def test_what_did_not_change_is_not_loaded_again(shelf: Shelf, measured: AdminServer) -> None:
    shelf.publish(1, 1)  # other files, the same bytes
    await measured.rescan()
    assert await measured.served.metric("model_loads_total") == 1


async def test_a_directory_that_is_gone_is_unloaded(shelf: Shelf, server: AdminServer) -> None:
    shelf.publish(2, 2)
    await server.rescan()
    shelf.remove(2)
    await server.rescan()
    assert await server.answering() == (1, 1)
    shelf.remove(1)
    await server.rescan()
    await refusal(server.answering(version=2), grpc.StatusCode.NOT_FOUND)
    said = await refusal(server.answering(), grpc.StatusCode.NOT_FOUND)
    assert said == "model 'vae' is not in the repository"
    shelf.publish(1, 3)
    await server.rescan()
    assert await server.answering() == (1, 3)


async def test_a_broken_version_leaves_the_old_one_and_says_why(shelf: Shelf, measured: AdminServer) -> None:
    shelf.publish(2, 2, broken=True)
    await measured.rescan()
    assert await measured.states() == {1: (READY, ""), 2: (UNAVAILABLE, BROKEN)}
    assert await measured.answering() == (1, 1)
    assert await measured.served.metric("model_loads_total", model="vae", result="failure") == 1
    await measured.rescan()  # whoever asks gets another try
    assert await measured.served.metric("model_loads_total", model="vae", result="failure") == 2
    shelf.publish(2, 2)
    await measured.rescan()
    assert await measured.answering() == (2, 2)


async def test_a_broken_replacement_leaves_the_old_model_and_says_why(shelf: Shelf, server: AdminServer) -> None:
    shelf.publish(1, 2, broken=True)
    await server.rescan()
    assert await server.states() == {1: (READY, f"what its directory now holds does not load: {BROKEN}")}
    assert await server.answering() == (1, 1)
    shelf.publish(1, 1)
    await server.rescan()
    assert await server.states() == {1: (READY, "")}
    shelf.publish(1, 3)
    await server.rescan()
    assert await server.states() == {1: (READY, "")}
    assert await server.answering() == (1, 3)


async def test_a_graph_that_does_not_reproduce_its_golden_rows_never_answers(shelf: Shelf, server: AdminServer) -> None:
    def spoil(golden: dict[str, Any]) -> None:
        golden["decoder.image"] += 0.5

    shelf.publish_written(2, lambda place: TinyModel(seed=2).write(place, edit_golden=spoil))
    await server.rescan()
    state, reason = (await server.states())[2]
    assert state == UNAVAILABLE
    assert "does not reproduce the golden rows" in reason
    assert await server.answering() == (1, 1)


async def test_a_repository_that_cannot_be_read_changes_nothing(shelf: Shelf, server: AdminServer) -> None:
    away = shelf.root.with_name("away")
    shelf.root.rename(away)
    assert "not a readable directory" in await refusal(server.rescan())
    assert await server.answering() == (1, 1)
    away.rename(shelf.root)
    assert await server.rescan() == []


async def test_what_is_no_version_is_a_problem(shelf: Shelf, server: AdminServer) -> None:
    for name in (b"latest", b"\xff"):
        (shelf.model / os.fsdecode(name)).mkdir()
    assert await server.rescan() == [
        "ignored: vae/latest is not <name>/<version>, a positive integer",
        "ignored: vae/? is not <name>/<version>, a positive integer",
    ]


async def test_calls_are_answered_while_a_version_loads(shelf: Shelf, server: AdminServer) -> None:
    with held_loading(shelf, 2, 2) as (decoder, data):
        rescan = asyncio.create_task(server.rescan())
        with await opened(decoder) as pipe:
            assert await server.states() == {1: (READY, ""), 2: (models_pb2.MODEL_STATE_LOADING, "")}
            assert await server.answering() == (1, 1)
            pipe.write(data)
        await rescan
    assert await server.answering() == (2, 2)


async def test_a_change_goes_on_when_its_caller_leaves(shelf: Shelf, measured: AdminServer) -> None:
    with held_loading(shelf, 2, 2) as (decoder, data):
        rescan = measured.admin.Rescan(models_pb2.RescanRequest())
        with await opened(decoder) as pipe:
            rescan.cancel()
            pipe.write(data)
    await measured.rescan()
    assert await measured.answering() == (2, 2)
    assert await measured.served.metric("model_loads_total") == 2


async def test_a_server_that_is_loading_stops(shelf: Shelf) -> None:
    async with admin_server(shelf) as server:
        with held_loading(shelf, 2, 2) as (decoder, data):
            rescan = asyncio.create_task(server.rescan())
            with await opened(decoder) as pipe:
                await server.served.server.stop()
                with pytest.raises(grpc.aio.AioRpcError):
                    await rescan
                pipe.write(data)


async def test_a_call_is_answered_by_the_version_that_it_began_with(shelf: Shelf) -> None:
    shelf.publish(1, 1, slow=True)
    async with admin_server(shelf, metrics_listen="127.0.0.1:0") as server:
        slow = pb.DecodeRequest(model=VAE, latents=from_ndarray(np.full((1, 3), SOME_TURNS, np.float32)))
        held: Any = server.served.generation.Decode(slow)
        await server.states()  # one connection hands calls over in order, so the call has begun
        shelf.publish(2, 2)
        await server.rescan()
        assert not held.done()
        assert await server.answering() == (2, 2)
        assert (await server.states())[1] == (UNLOADING, UNWANTED[1])
        said = await refusal(server.answering(version=1), grpc.StatusCode.UNAVAILABLE)
        assert said == f"model 'vae' version 1 is unloading: {UNWANTED[1]}"
        assert await server.served.metric("model_state", version="1", state="unloading") == 1
        assert (await held).served.version == 1
        await server.unload(1)
        assert (await server.states())[1] == (UNAVAILABLE, "unloaded on request")


async def test_a_stream_holds_its_version_until_it_ends(shelf: Shelf, server: AdminServer) -> None:
    request = pb.StreamSamplesRequest(model=VAE, count=1 << 40, chunk_rows=1)
    stream: Any = server.served.generation.StreamSamples(request)
    assert (await stream.read()).served.version == 1
    shelf.publish(2, 2)
    await server.rescan()
    unload = asyncio.create_task(server.unload(1))
    for _ in range(100):
        assert (await stream.read()).served.version == 1
    assert not unload.done()
    assert (await server.states())[1][0] == UNLOADING
    stream.cancel()
    async with asyncio.timeout(BACKSTOP_SECONDS):
        await unload
    assert engine_threads() == {"engine-vae-2"}


async def test_a_version_that_is_wanted_back_answers_while_its_old_model_ends(
    shelf: Shelf, measured: AdminServer
) -> None:
    request = pb.StreamSamplesRequest(model=VAE, count=1 << 40, chunk_rows=1)
    stream: Any = measured.served.generation.StreamSamples(request)
    await stream.read()
    shelf.publish(2, 2)
    await measured.rescan()
    await measured.load(1)
    assert await measured.answering(version=1) == (1, 1)
    assert (await stream.read()).served.version == 1
    stream.cancel()
    assert await measured.served.metric("model_info", version="1") == 1


async def test_the_metrics_of_a_version_go_with_it(shelf: Shelf, measured: AdminServer) -> None:
    await measured.answering()
    assert await measured.served.metric("model_state", version="1") == 1
    assert await measured.served.metric("batch_rows_count", version="1") == 2
    shelf.publish(2, 2)
    await measured.rescan()
    await measured.unload(1)
    assert await measured.served.metric("model_state", version="1", state="unavailable") == 1
    assert await measured.served.metric("batch_rows_count", version="1") == 0
    shelf.remove(1)
    await measured.rescan()
    for name in ("model_state", "model_info", "batch_rows_count", "queue_rows"):
        assert await measured.served.metric(name, version="1") == 0
    assert await measured.served.metric("model_state", version="2", state="ready") == 1


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


async def test_polling_follows_the_repository_and_tries_a_broken_manifest_once(shelf: Shelf) -> None:
    async with server_process(shelf.root, "--poll-interval=0.1") as process:
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
