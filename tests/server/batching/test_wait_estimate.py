"""How long a call is expected to wait, and what follows from an expectation that was wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest
from held_graph import HeldGraph, Notes, batch_limits, settle, turn_loop

from latentserve_server.batching.batcher import Batcher
from latentserve_server.batching.queue import WaitEstimate
from latentserve_server.batching.scheduling import Result, Scheduling
from latentserve_server.errors import EngineFailure, Overloaded
from latentserve_server.workers import Workers


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose clock a test can put forward."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


async def call_with_patience(batcher: Batcher, rows: int, seconds: float) -> Result:
    deadline = asyncio.get_running_loop().time() + seconds
    return await batcher.submit({"x": np.arange(rows)}, ["double"], Scheduling(deadline))


def test_nothing_is_expected_before_anything_is_known() -> None:
    assert WaitEstimate(8).wait(100, now=5.0) == 0.0


def test_the_wait_is_what_remains_of_the_run_under_way_and_the_runs_before() -> None:
    estimate = WaitEstimate(8)
    estimate.dispatch(10.0)
    estimate.finish(8, 12.0)
    assert estimate.wait(3, now=20.0) == pytest.approx(6.0)
    estimate.dispatch(20.0)
    assert estimate.wait(3, now=20.5) == pytest.approx(1.5 + 6.0)
    assert estimate.wait(3, now=90.0) == pytest.approx(6.0)


def test_small_batches_say_nothing_of_full_ones() -> None:
    estimate = WaitEstimate(8)
    estimate.dispatch(0.0)
    estimate.finish(3, 100.0)
    assert estimate.wait(1, now=100.0) == 0.0


def test_a_run_that_was_given_up_says_nothing() -> None:
    estimate = WaitEstimate(8)
    estimate.dispatch(10.0)
    estimate.finish(8, 12.0)
    estimate.dispatch(20.0)
    estimate.discard()
    assert estimate.wait(3, now=20.0) == pytest.approx(6.0)


async def fail(batcher: Batcher, executor: ThreadPoolExecutor) -> None:
    """A call of one row whose run fails at once."""
    with pytest.raises(EngineFailure):
        await batcher.submit({"x": np.array([-1])}, ["double"])


async def leave(batcher: Batcher, executor: ThreadPoolExecutor) -> None:
    """A call of one row that leaves before its run has begun, because the engine's thread has other work."""
    busy = threading.Event()
    executor.submit(busy.wait)
    call = asyncio.create_task(batcher.submit({"x": np.array([1])}, ["double"]))
    await turn_loop()
    call.cancel()
    busy.set()
    await settle(executor)


@asynccontextmanager
async def after_a_slow_batch() -> AsyncIterator[tuple[Batcher, HeldGraph, ThreadPoolExecutor]]:
    """A batcher whose last batch, a full one, took a hundred seconds; its graph holds the next one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clock)
    graph = HeldGraph()
    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher(graph, executor, Workers(1), Notes(), batch_limits(8, 100))
        batcher.start()
        slow = asyncio.create_task(call_with_patience(batcher, 8, float("inf")))
        await graph.batch_entered()
        loop.ahead = 100.0
        graph.let_one_run()
        await slow
        try:
            yield batcher, graph, executor
        finally:
            graph.open()
            await batcher.close()


@pytest.mark.parametrize("vain", [fail, leave])
def test_a_run_in_vain_does_not_make_the_wait_look_short(
    vain: Callable[[Batcher, ThreadPoolExecutor], Awaitable[None]],
) -> None:
    """After a full batch that took a hundred seconds, a call behind two of its kind wants an answer within 30."""

    async def scenario() -> None:
        async with after_a_slow_batch() as (batcher, graph, executor):
            graph.let_one_run()  # what is run in vain
            await vain(batcher, executor)
            graph.withdraw_permit()
            waiting = [asyncio.create_task(call_with_patience(batcher, 8, float("inf"))) for _ in range(2)]
            late = asyncio.create_task(call_with_patience(batcher, 1, 30))
            await turn_loop()
            graph.open()
            with pytest.raises(Overloaded, match="would go beyond the deadline"):
                await late
            await asyncio.gather(*waiting)

    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(scenario())


def after_a_stall(patience: float) -> Result:
    """The result of a call to an idle engine whose last batch, a full one, took a hundred seconds."""

    async def scenario() -> Result:
        async with after_a_slow_batch() as (batcher, graph, _):
            graph.open()
            await turn_loop()
            return await call_with_patience(batcher, 1, patience)

    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(scenario())


def test_a_patient_caller_is_answered_after_a_stall() -> None:
    assert after_a_stall(patience=1000).outputs["double"].tolist() == [0]


def test_a_stall_does_not_close_an_idle_engine_to_callers_of_ordinary_patience() -> None:
    assert after_a_stall(patience=30).outputs["double"].tolist() == [0]
