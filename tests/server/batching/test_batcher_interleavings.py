"""The batcher under any order of arrivals, departures, deadlines, failures and batches.

Every caller gets exactly its own rows or the one error that is its due, nothing hangs, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pytest
from held_graph import BACKSTOP_SECONDS, HeldGraph, Notes, batch_limits, settle, turn_loop
from hypothesis import given, settings
from hypothesis import strategies as st

from latentserve_server.batching.batcher import Batcher
from latentserve_server.batching.scheduling import Result, Scheduling
from latentserve_server.errors import DeadlineExpired, EngineFailure, Overloaded, ShuttingDown
from latentserve_server.workers import Workers

MAX_QUEUE_ROWS = 60


@dataclass(frozen=True)
class Arrive:
    rows: int
    poisoned: bool = False
    late: bool = False


@dataclass(frozen=True)
class Leave:
    place: int


@dataclass(frozen=True)
class RunBatch:
    pass


ARRIVALS = st.builds(
    Arrive,
    rows=st.one_of(st.integers(1, 6), st.integers(1, MAX_QUEUE_ROWS)),
    poisoned=st.sampled_from([False, False, False, True]),
    late=st.sampled_from([False, False, False, True]),
)
PLANS = st.lists(
    st.one_of(ARRIVALS, ARRIVALS, st.builds(Leave, st.integers(0, 20)), st.builds(RunBatch)), min_size=1, max_size=25
)


@dataclass
class Caller:
    """One call, and what was true when it arrived."""

    rows: Sequence[int]
    late: bool
    fits: bool
    task: asyncio.Task[Result]
    left: bool = False


class Play:
    """A plan, played on one batcher."""

    def __init__(self, executor: ThreadPoolExecutor, max_batch_rows: int) -> None:
        self.executor = executor
        self.graph, self.notes = HeldGraph(), Notes()
        limits = batch_limits(max_batch_rows, MAX_QUEUE_ROWS)
        self.batcher = Batcher(self.graph, executor, Workers(1), self.notes, limits)
        self.callers: list[Caller] = []
        self._numbers = count(1)

    async def step(self, step: Arrive | Leave | RunBatch) -> None:
        match step:
            case Arrive():
                self._arrive(step)
                await turn_loop()
                assert self.callers[-1].fits or self.callers[-1].task.done(), "a refusal comes at once"
            case Leave():
                if self.callers:
                    caller = self.callers[step.place % len(self.callers)]
                    caller.left |= caller.task.cancel()
                    await turn_loop()
            case RunBatch():
                self.graph.let_one_run()
                await settle(self.executor)
                self.graph.withdraw_permit()  # else a batch would run at a moment of its own during a later step

    def _arrive(self, step: Arrive) -> None:
        rows = [next(self._numbers) for _ in range(step.rows)]
        if step.poisoned:
            rows[-1] = -rows[-1]
        loop = asyncio.get_running_loop()
        fits = self.notes.queue_rows + step.rows <= MAX_QUEUE_ROWS
        deadline = loop.time() + (0.0 if step.late else 1e6)
        task = loop.create_task(self.batcher.submit({"x": np.array(rows)}, ["double"], Scheduling(deadline)))
        self.callers.append(Caller(rows, step.late, fits, task))

    def check(self, caller: Caller, result: Any, max_batch_rows: int) -> None:
        ran = [row for batch in self.graph.batches for row in batch if row in caller.rows]
        assert ran == list(caller.rows[: len(ran)]), "rows run in order, and once"
        failed = any(row in batch for batch in self.graph.failed for row in caller.rows)
        match result:
            case Result():
                assert result.outputs["double"].tolist() == [2 * row for row in caller.rows]
                assert result.outputs.keys() == {"double"}
                assert result.timing.queue_ns >= 0
                assert result.timing.compute_ns > 0
                assert not failed
                assert caller.fits
            case asyncio.CancelledError():
                assert caller.left
            case Overloaded():
                assert not caller.fits
                assert not ran
            case DeadlineExpired():
                assert caller.late
                assert len(ran) < len(caller.rows)
                assert not failed
            case EngineFailure():
                assert failed
            case _:
                raise AssertionError(f"{result!r} is nobody's due")


async def play(plan: Sequence[Arrive | Leave | RunBatch], max_batch_rows: int) -> Play:
    with ThreadPoolExecutor(1) as executor:
        performance = Play(executor, max_batch_rows)
        performance.batcher.start()
        try:
            for step in plan:
                await performance.step(step)
        finally:
            performance.graph.open()
        async with asyncio.timeout(BACKSTOP_SECONDS):
            results = await asyncio.gather(*(caller.task for caller in performance.callers), return_exceptions=True)
            await performance.batcher.close()
        for caller, result in zip(performance.callers, results, strict=True):
            performance.check(caller, result, max_batch_rows)
    return performance


@pytest.mark.slow
@settings(max_examples=150)
@given(plan=PLANS, max_batch_rows=st.sampled_from([1, 4, 7, 16]))
def test_every_caller_gets_its_own_rows_or_its_own_error(
    plan: list[Arrive | Leave | RunBatch], max_batch_rows: int
) -> None:
    performance = asyncio.run(play(plan, max_batch_rows))
    batches = performance.graph.batches
    assert all(len(batch) <= max_batch_rows for batch in batches)
    assert performance.notes.queue_rows == 0
    assert performance.notes.batches == [len(batch) for batch in batches if batch not in performance.graph.failed]
    assert len(performance.notes.waits) == sum(
        not caller.task.cancelled() and caller.task.exception() is None for caller in performance.callers
    )


@settings(max_examples=50)
@given(arrivals=st.lists(st.builds(Arrive, st.integers(1, 30)), min_size=1, max_size=10), batches=st.integers(0, 5))
def test_closing_midway_answers_every_caller(arrivals: list[Arrive], batches: int) -> None:
    async def close_midway() -> None:
        with ThreadPoolExecutor(1) as executor:
            performance = Play(executor, max_batch_rows=8)
            performance.batcher.start()
            steps: list[Arrive | RunBatch] = [*arrivals, *[RunBatch()] * batches]
            for step in steps:
                await performance.step(step)
            closing = asyncio.create_task(performance.batcher.close())
            await turn_loop()
            performance.graph.open()
            async with asyncio.timeout(BACKSTOP_SECONDS):
                await closing
                results = await asyncio.gather(*(c.task for c in performance.callers), return_exceptions=True)
        for caller, result in zip(performance.callers, results, strict=True):
            if not isinstance(result, ShuttingDown):
                performance.check(caller, result, 8)
        assert performance.notes.queue_rows == 0

    asyncio.run(close_midway())
