"""A signal lets the calls under way end; a second one does not wait."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from running_server import channel_to, metric
from server_process import BACKSTOP_SECONDS, ServerProcess, server_process
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc

pytestmark = pytest.mark.slow

SLOW = pb.ModelRef(name="slow")
IMAGES = pb.Images(tensor=from_ndarray(np.zeros((3, 1, 4, 5), np.uint8)))
SOME_TURNS, ENDLESS_TURNS = 30_000, 2e9
CUT_OFF = "the server stopped before the call was answered; ask another one"
PROMPT_SECONDS = 15.0
"""What an exit may take on a busy machine, where a run to its end would take longer."""
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)


@pytest.fixture(scope="module")
def slow_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    TinyModel(slow=True).write(root / "slow" / "1")
    return root


class Subject:
    """A server process and calls of its slow model."""

    def __init__(self, process: ServerProcess, channel: grpc.aio.Channel, metrics_port: int) -> None:
        self.process = process
        self.generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self.models = models_pb2_grpc.ModelServiceStub(channel)
        self._metrics_port = metrics_port

    def decode(self, turns: float) -> Any:
        """A call whose batch takes so many turns of the decoder."""
        latents = from_ndarray(np.full((1, 3), turns, np.float32))
        return self.generation.Decode(pb.DecodeRequest(model=SLOW, latents=latents))

    async def accepted(self, calls: int) -> None:
        """Return once the server says that it took so many calls; some may have been answered since."""
        async with asyncio.timeout(BACKSTOP_SECONDS):
            taken = 0.0
            while taken < calls:
                names = ("requests_in_flight", "requests_total")
                taken = sum([await metric(self._metrics_port, name) for name in names])


@asynccontextmanager
async def subject(repository: Path, *flags: str) -> AsyncIterator[Subject]:
    async with server_process(repository, "--metrics-listen=127.0.0.1:0", *flags) as process:
        ready = await process.log("serving on port")
        async with channel_to(ready["port"]) as channel:
            yield Subject(process, channel, ready["metrics_port"])


@SIGNALS
async def test_every_accepted_call_is_answered_and_the_exit_is_clean(slow_repository: Path, number: int) -> None:
    async with subject(slow_repository, "--max-batch-rows=4") as s:
        calls: list[Any] = [s.decode(SOME_TURNS)]
        calls += [s.generation.Sample(pb.SampleRequest(model=SLOW, count=count)) for count in range(1, 21)]
        calls += [s.generation.Reconstruct(pb.ReconstructRequest(model=SLOW, images=IMAGES)) for _ in range(10)]
        calls += [s.decode(SOME_TURNS)]
        await s.accepted(len(calls))
        s.process.signal(number)
        await s.process.log("draining")
        replies = await asyncio.gather(*calls)
        assert [reply.images.tensor.shape[0] for reply in replies] == [1, *range(1, 21), *[3] * 10, 1]
        assert await s.process.exit_status() == 0
        assert '"message": "stopped"' in s.process.lines[-1]
        assert not s.process.complaints()


async def test_callers_that_never_pause_are_refused_so_that_they_can_go_elsewhere(slow_repository: Path) -> None:
    async with subject(slow_repository) as s:
        held = s.decode(5 * SOME_TURNS)
        answered = asyncio.Event()

        async def keep_calling() -> grpc.StatusCode:
            while True:
                try:
                    await s.models.ListModels(models_pb2.ListModelsRequest())
                except grpc.aio.AioRpcError as error:
                    return error.code()
                answered.set()

        callers = [asyncio.create_task(keep_calling()) for _ in range(32)]
        await answered.wait()
        await s.accepted(1)
        s.process.signal(signal.SIGTERM)
        assert set(await asyncio.gather(*callers)) == {grpc.StatusCode.UNAVAILABLE}
        await held
        assert await s.process.exit_status() == 0


@SIGNALS
async def test_a_second_signal_ends_the_process_at_once(slow_repository: Path, number: int) -> None:
    async with subject(slow_repository) as s:
        call = s.decode(ENDLESS_TURNS)
        await s.accepted(1)
        s.process.signal(number)
        await s.process.log("draining")
        s.process.signal(number)
        assert await s.process.exit_status() == 128 + number
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def cut_off(s: Subject) -> None:
    """Have calls that would never end be cut off, and see the process leave in order."""
    calls = [s.decode(ENDLESS_TURNS) for _ in range(3)]
    await s.accepted(3)
    s.process.signal(signal.SIGTERM)
    results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert {(result.code(), result.details()) for result in results} == {(grpc.StatusCode.UNAVAILABLE, CUT_OFF)}
    assert await s.process.exit_status() == 0


async def test_calls_that_outlast_the_drain_are_cut_off_and_leave_none_but_log_lines(slow_repository: Path) -> None:
    async with subject(slow_repository, "--drain-timeout=0") as s:
        await cut_off(s)
        assert not s.process.complaints()


async def test_an_idle_server_stops_at_once(slow_repository: Path) -> None:
    async with server_process(slow_repository, "--drain-timeout=1000") as process:
        await process.log("serving on port")
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0
        assert not [line for line in process.lines if "left behind" in line]


async def test_a_signal_while_a_graph_is_tried_ends_its_run(tmp_path: Path) -> None:
    def make_endless(golden: dict[str, Any]) -> None:
        golden["decoder.latent"][:, 0] = ENDLESS_TURNS

    TinyModel(slow=True).write(tmp_path / "slow" / "1", edit_golden=make_endless)
    async with server_process(tmp_path, "--max-batch-rows=4096") as process:  # 14 runs of seconds each
        await process.log("loading slow version 1")
        process.signal(signal.SIGTERM)
        async with asyncio.timeout(PROMPT_SECONDS):
            assert await process.exit_status() == 0
        assert not process.complaints()
