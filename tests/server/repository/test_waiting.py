"""A server over a repository without a model waits for the first one."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from admin_server import READY, AdminServer, admin_server, refusal
from grpc_health.v1 import health_pb2
from model_shelf import Shelf, write
from running_server import channel_to
from server_process import server_process

from latentserve.v1 import models_pb2, models_pb2_grpc
from latentserve_server.server import SERVICES

WAITS = "no model is there yet; the server waits for the first, <name>/<version>/manifest.json"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """No version."""
    (tmp_path / "models").mkdir()
    return Shelf(tmp_path / "models")


async def health(server: AdminServer, service: str) -> Any:
    return (await server.served.health.Check(health_pb2.HealthCheckRequest(service=service))).status


async def test_an_empty_repository_is_served_once_it_has_a_model(shelf: Shelf) -> None:
    async with admin_server(shelf) as server:
        assert await server.states() == {}
        assert {await health(server, service) for service in ("", SERVICES[0], SERVICES[2])} == {NOT_SERVING}
        assert await health(server, SERVICES[1]) == SERVING
        await refusal(server.answering(), grpc.StatusCode.NOT_FOUND)
        assert await server.rescan() == []
        shelf.publish(1, 1)
        assert await server.rescan() == []
        assert await health(server, "") == SERVING
        assert await server.answering() == (1, 1)


@pytest.mark.parametrize("as_url", [False, True], ids=["directory", "url"])
async def test_the_first_model_is_found_without_a_poll(shelf: Shelf, as_url: bool) -> None:
    place = shelf.root.as_uri() if as_url else str(shelf.root)
    async with server_process(place) as process:
        line = await process.log(f"{place}: {WAITS}")
        assert line["level"] == "WARNING"
        await process.log("serving on port")
        shelf.publish(1, 1)
        await process.log("vae version 1 is ready")
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0
        assert not process.complaints()


@pytest.mark.slow
async def test_a_first_model_that_is_half_copied_is_tried_again(shelf: Shelf) -> None:
    async with server_process(shelf.root) as process:
        port = (await process.log("serving on port"))["port"]
        whole = write(shelf.root.with_name("whole"), 1)
        place = shelf.model / "1"
        place.mkdir(parents=True)
        shutil.copy(whole / "manifest.json", place)
        await process.log("vae version 1 is unavailable: decoder.onnx: No such file")
        shutil.copytree(whole, place, dirs_exist_ok=True)
        await process.log("vae version 1 is ready")
        async with channel_to(port) as channel:
            listed = await models_pb2_grpc.ModelServiceStub(channel).ListModels(models_pb2.ListModelsRequest())
            assert [(one.version, one.state) for one in listed.models] == [(1, READY)]
