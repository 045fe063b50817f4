"""A server that follows its repository while it serves: what comes, what changes, what breaks, what goes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import grpc
from admin_server import READY, UNAVAILABLE, AdminServer, engine_threads, refusal
from held_graph import BACKSTOP_SECONDS
from model_shelf import BROKEN, Shelf, write
from tiny_bundle import TinyModel

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2

VAE = pb.ModelRef(name="vae")


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
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while await server.listed():  # until what it held is free
            pass
    await refusal(server.answering(version=2), grpc.StatusCode.NOT_FOUND)
    await refusal(server.answering(), grpc.StatusCode.NOT_FOUND)
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


async def test_a_pipe_in_the_place_of_a_manifest_holds_up_no_change(shelf: Shelf, server: AdminServer) -> None:
    def write_pipe(place: Path) -> None:
        (write(place, 2) / "manifest.json").unlink()
        os.mkfifo(place / "manifest.json")

    shelf.publish_written(2, write_pipe)
    await refusal(server.load(2))
    assert await server.set_alias("stable", 1)
    assert await server.rescan() == []
    assert {version: state for version, (state, _) in (await server.states()).items()} == {1: READY, 2: UNAVAILABLE}
    assert await server.answering() == (1, 1)


async def test_a_graph_that_does_not_reproduce_its_golden_rows_never_answers(shelf: Shelf, server: AdminServer) -> None:
    def spoil(golden: dict[str, Any]) -> None:
        golden["decoder.image"] += 0.5

    shelf.publish_written(2, lambda place: TinyModel(seed=2).write(place, edit_golden=spoil))
    await server.rescan()
    assert (await server.states())[2][0] == UNAVAILABLE
    assert await server.answering() == (1, 1)


async def test_a_repository_that_cannot_be_read_changes_nothing(shelf: Shelf, server: AdminServer) -> None:
    away = shelf.root.with_name("away")
    shelf.root.rename(away)
    await refusal(server.rescan())
    assert await server.answering() == (1, 1)
    away.rename(shelf.root)
    assert await server.rescan() == []


async def test_the_metrics_of_a_version_go_with_it(shelf: Shelf, measured: AdminServer) -> None:
    await measured.answering()
    assert await measured.served.metric("model_state", version="1") == 1
    assert await measured.served.metric("batch_rows_count", version="1") == 1
    assert await measured.served.metric("graph_memory_bytes", version="1") > 0
    shelf.publish(2, 2)
    await measured.rescan()
    await measured.unload(1)
    assert await measured.served.metric("model_state", version="1", state="unavailable") == 1
    assert await measured.served.metric("batch_rows_count", version="1") == 0
    shelf.remove(1)
    await measured.rescan()
    for name in ("model_state", "model_info", "batch_rows_count", "queue_rows", "graph_memory_bytes"):
        assert await measured.served.metric(name, version="1") == 0
    assert await measured.served.metric("model_state", version="2", state="ready") == 1
