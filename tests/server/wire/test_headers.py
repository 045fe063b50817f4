"""Headers are let in or refused by their length alone, and what is refused is counted."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from refusal import invalid, refusal
from running_server import RunningServer, running_server

from latentserve.v1 import models_pb2

REQUEST = models_pb2.ListModelsRequest()
TRIES = 20
"""gRPC's own limits refused a share of the calls."""


def authorization(size: int) -> list[tuple[str, str]]:
    return [("authorization", "x" * size)]


@pytest.mark.parametrize("size", [9_000, 16_000])
async def test_headers_up_to_the_limit_are_let_in_every_time(served: RunningServer, size: int) -> None:
    for _ in range(TRIES):
        assert (await served.models.ListModels(REQUEST, metadata=authorization(size))).models


async def test_longer_headers_are_refused_every_time_and_counted(repository: Path) -> None:
    async with running_server(repository, metrics_listen="127.0.0.1:0") as served:
        for size in (16_400, 60_000):
            for _ in range(TRIES):
                message = await invalid(served.models.ListModels(REQUEST, metadata=authorization(size)))
                assert message.startswith("headers: ")
                assert message.endswith(" bytes; 16384 are allowed")
        labels = {"method": "ListModels", "code": "INVALID_ARGUMENT"}
        assert await served.metric("requests_total", **labels) == 2 * TRIES
        assert await served.metric("requests_in_flight") == 0


async def test_the_limit_holds_for_grpcs_own_services(served: RunningServer) -> None:
    request = health_pb2.HealthCheckRequest()
    await served.health.Check(request, metadata=authorization(16_000))
    assert (await invalid(served.health.Check(request, metadata=authorization(17_000)))).startswith("headers: ")
    assert (await invalid(served.health.Watch(request, metadata=authorization(17_000)).read())).startswith("headers: ")


@pytest.mark.slow
async def test_headers_that_grpc_does_not_take_are_refused_every_time(served: RunningServer) -> None:
    for _ in range(TRIES):
        error = await refusal(served.models.ListModels(REQUEST, metadata=authorization(70_000)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_limit_is_an_option(repository: Path) -> None:
    async with running_server(repository, max_header_bytes=100_000) as served:
        await served.models.ListModels(REQUEST, metadata=authorization(99_000))
        assert "100000 are allowed" in await invalid(served.models.ListModels(REQUEST, metadata=authorization(100_000)))
