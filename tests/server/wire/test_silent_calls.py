"""Calls without a message: one that says so is refused, one whose caller goes is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from held_graph import BACKSTOP_SECONDS
from refusal import refusal
from running_server import RunningServer, running_server

from latentserve.v1 import generation_pb2 as pb

UNARY = ["/latentserve.v1.GenerationService/Sample", "/latentserve.v1.ModelService/ListModels"]


@pytest.fixture
async def served(repository: Path) -> AsyncIterator[RunningServer]:
    async with running_server(repository, metrics_listen="127.0.0.1:0", max_calls=1) as server:
        yield server


@pytest.mark.parametrize("method", UNARY)
async def test_a_call_that_is_half_closed_without_a_message_is_refused(served: RunningServer, method: str) -> None:
    call: Any = served.channel.stream_unary(method)
    error = await refusal(call(iter(())))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "request: there is none, though the call was half-closed"


@pytest.mark.parametrize("method", UNARY)
async def test_a_caller_who_goes_before_the_message_leaves_its_place_and_no_trace(
    served: RunningServer, method: str
) -> None:
    never = asyncio.Event()

    async def silence() -> AsyncIterator[bytes]:
        await never.wait()
        yield b""

    request = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1)
    async with asyncio.timeout(BACKSTOP_SECONDS):
        silent: Any = None
        while silent is None:  # until a silent call has the only place
            asked: Any = served.channel.stream_unary(method)(silence())
            while not asked.done() and silent is None:
                refused = isinstance(await answer(served, request), grpc.aio.AioRpcError)
                silent = asked if refused and not asked.done() else None
        silent.cancel()
        while isinstance(await answer(served, request), grpc.aio.AioRpcError):
            pass
    assert not await served.metric("requests_total", code="INVALID_ARGUMENT")


async def answer(served: RunningServer, request: pb.SampleRequest) -> object:
    """What a call gets, or why it is refused."""
    try:
        return await served.generation.Sample(request)
    except grpc.aio.AioRpcError as error:
        return error
