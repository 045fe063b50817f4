"""Many callers of one real server: who waits, who is refused, who leaves, and what the others see of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from held_graph import BACKSTOP_SECONDS
from running_server import RunningServer, running_server
from tested_device import assert_agree, tolerance
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2
from latentserve_server.latent.noise import NoiseSource, Stream

SLOW, QUICK = pb.ModelRef(name="slow"), pb.ModelRef(name="quick")
ENDLESS_TURNS, SOME_TURNS = 2e9, 20_000


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    TinyModel(slow=True).write(root / "slow" / "1")
    TinyModel(seed=3).write(root / "quick" / "1")
    return root


@pytest.fixture
async def busy(models: Path) -> AsyncIterator[RunningServer]:
    """A server whose batches are larger than its queue: whatever waits, waits in the queue."""
    limits = {"max_rows_per_request": 16, "max_batch_rows": 32, "max_queue_rows": 20}
    async with running_server(models, metrics_listen="127.0.0.1:0", drain_timeout=0, **limits) as server:
        yield server


def decode(served: RunningServer, turns: float = 0, **options: Any) -> Any:
    """A call of the slow model, whose batch takes so many turns of the decoder."""
    latents = from_ndarray(np.full((1, 3), turns, np.float32))
    return served.generation.Decode(pb.DecodeRequest(model=SLOW, latents=latents), **options)


def sample(served: RunningServer, count: int, model: pb.ModelRef = SLOW, **options: Any) -> Any:
    return served.generation.Sample(pb.SampleRequest(model=model, count=count, seed=1), **options)


async def running(served: RunningServer) -> None:
    """Return once a call has been admitted and nothing waits: so it runs."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while not await served.metric("requests_in_flight") or await served.metric("queue_rows"):
            pass


async def waiting(served: RunningServer, rows: int) -> None:
    """Return once so many rows wait."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while await served.metric("queue_rows") != rows:
            pass


def times_to_come_back(error: grpc.aio.AioRpcError) -> tuple[float, float]:
    """Milliseconds, as gRPC's pushback and as google.rpc.RetryInfo say them."""
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])  # type: ignore[arg-type]
    info = error_details_pb2.RetryInfo()
    assert status.code == error.code().value[0]
    assert status.details[0].Unpack(info)
    return float(trailers["grpc-retry-pushback-ms"]), info.retry_delay.ToMilliseconds()


@pytest.mark.slow
async def test_a_wait_beyond_the_deadline_is_refused_at_once_with_a_time_to_come_back(busy: RunningServer) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    full = from_ndarray(np.full((16, 3), 10 * SOME_TURNS, np.float32))
    await busy.generation.Decode(pb.DecodeRequest(model=SLOW, latents=full))
    seconds = loop.time() - began
    held = decode(busy, ENDLESS_TURNS)
    await running(busy)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await decode(busy, timeout=seconds / 3)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "would go beyond the deadline" in (caught.value.details() or "")
    pushback, delay = times_to_come_back(caught.value)
    assert pushback == delay
    assert 1000 * seconds / 3 < pushback < 2.1 * 1000 * seconds
    held.cancel()


async def test_a_full_queue_refuses_at_once_and_admits_again_later(busy: RunningServer) -> None:
    held = decode(busy, ENDLESS_TURNS)
    await running(busy)
    waits = sample(busy, 16)
    await waiting(busy, 16)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sample(busy, 5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "16 of at most 20 rows wait; 5 more do not fit"
    pushback, delay = times_to_come_back(caught.value)
    assert pushback == delay > 0
    held.cancel()
    assert to_ndarray((await waits).images.tensor).shape[0] == 16
    assert to_ndarray((await sample(busy, 16)).images.tensor).shape[0] == 16
    assert await busy.metric("requests_total", method="Sample", code="RESOURCE_EXHAUSTED") == 1
    assert await busy.metric("queue_rows") == 0


async def test_callers_that_leave_free_their_places_and_leave_the_others_alone(busy: RunningServer) -> None:
    held = decode(busy, ENDLESS_TURNS)
    await running(busy)
    calls = [sample(busy, 4) for _ in range(4)]
    await waiting(busy, 16)
    calls[1].cancel()
    calls[2].cancel()
    await waiting(busy, 8)
    held.cancel()
    first, last = [to_ndarray((await calls[i]).images.tensor) for i in (0, 3)]
    assert_agree(first, last)
    assert await busy.metric("dropped_calls_total", reason="cancelled") == 3
    assert await busy.metric("batch_rows_sum", model="slow", graph="decoder") == 8
    assert await busy.metric("requests_total", code="CANCELLED") == 3
    assert await busy.metric("requests_in_flight") == 0


async def test_a_caller_whose_deadline_passes_is_dropped_from_the_queue(busy: RunningServer) -> None:
    held = decode(busy, ENDLESS_TURNS)
    await running(busy)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sample(busy, 4, timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await waiting(busy, 0)
    assert not held.done()
    held.cancel()


@pytest.mark.cpu_only("on CUDA one run has the device at a time, and others wait for it")
async def test_one_model_does_not_wait_for_another_nor_the_server_for_a_model(busy: RunningServer) -> None:
    held = decode(busy, ENDLESS_TURNS)
    await running(busy)
    assert (await sample(busy, 8, QUICK)).served.model == "quick"
    assert len((await busy.models.ListModels(models_pb2.ListModelsRequest())).models) == 2
    assert not held.done()
    held.cancel()


async def test_the_engine_is_free_again_once_the_callers_of_an_endless_run_have_left(busy: RunningServer) -> None:
    held = decode(busy, ENDLESS_TURNS)
    await running(busy)
    held.cancel()
    assert to_ndarray((await sample(busy, 3)).images.tensor).shape[0] == 3


async def test_two_servers_of_one_process_do_not_know_of_each_other(models: Path, repository: Path) -> None:
    options: dict[str, Any] = {"metrics_listen": "127.0.0.1:0"}
    async with running_server(models, **options) as one, running_server(repository, **options) as other:
        assert one.server.port != other.server.port
        replies = await asyncio.gather(
            *(sample(one, 3, QUICK) for _ in range(4)), *(sample(other, 3, pb.ModelRef(name="vae")) for _ in range(6))
        )
        assert [reply.served.model for reply in replies] == ["quick"] * 4 + ["vae"] * 6
        assert (await one.metric("requests_total"), await other.metric("requests_total")) == (4, 6)
        await one.server.stop()
        assert (await sample(other, 1, pb.ModelRef(name="vae"))).served.version == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await sample(one, 1, QUICK)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_models_that_share_one_turn_all_answer_and_loads_take_turns_too(models: Path) -> None:
    async with running_server(models, concurrent_runs=1) as served:
        slow = [decode(served, 2_000) for _ in range(3)]
        quick = [sample(served, 3, QUICK) for _ in range(20)]
        replies = await asyncio.gather(*slow, *quick)
        listed = (await served.models.ListModels(models_pb2.ListModelsRequest())).models
    assert {status.name: status.state for status in listed} == dict.fromkeys(
        ("slow", "quick"), models_pb2.MODEL_STATE_READY
    )
    expected = to_ndarray(replies[-1].images.tensor)
    drawn = TinyModel(seed=3).images(NoiseSource().draw(1, 0, 3, 3, Stream.PRIOR))
    np.testing.assert_allclose(expected, drawn, atol=tolerance(1e-6))
    for reply in replies[len(slow) :]:
        assert_agree(to_ndarray(reply.images.tensor), expected)


async def test_the_wait_for_a_turn_is_queue_time_and_not_compute_time(models: Path) -> None:
    async with running_server(models, concurrent_runs=1, metrics_listen="127.0.0.1:0") as served:
        held = decode(served, SOME_TURNS)
        await running(served)
        timing = (await sample(served, 1, QUICK)).served.timing
        held_ns = (await held).served.timing.compute_ns
    assert timing.compute_ns < held_ns / 2
    assert timing.queue_ns + timing.compute_ns <= timing.total_ns
    assert timing.queue_ns > timing.compute_ns
