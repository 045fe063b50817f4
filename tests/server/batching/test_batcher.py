"""The batcher, one situation at a time: what a caller gets when others fail, leave, or ask for too much."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from held_graph import BACKSTOP_SECONDS, HeldGraph, Notes, batch_limits, turn_loop

from latentserve_server.batching.batcher import Batcher
from latentserve_server.batching.scheduling import Result, Scheduling
from latentserve_server.errors import DeadlineExpired, EngineFailure, Overloaded, ShuttingDown
from latentserve_server.workers import INLINE_BYTES, Workers


class Bench:
    """A batcher over a held graph, and calls of it."""

    def __init__(
        self, graph: Any, executor: ThreadPoolExecutor, max_batch_rows: int, max_queue_rows: int, buckets: Sequence[int]
    ) -> None:
        self.graph = graph
        self.notes = Notes()
        self.workers = Workers(1)
        limits = batch_limits(max_batch_rows, max_queue_rows, buckets)
        self.batcher = Batcher(graph, executor, self.workers, self.notes, limits)

    def call(
        self, first: int, rows: int = 1, deadline: float = float("inf"), *, bulk: bool = False
    ) -> asyncio.Task[Result]:
        """A call with the rows first, first + 1, ..."""
        inputs = {"x": np.arange(first, first + rows)}
        return asyncio.create_task(self.batcher.submit(inputs, ("double",), Scheduling(deadline, bulk)))

    async def hold_engine(self) -> asyncio.Task[Result]:
        """A call of one row, 0, whose batch is in the graph and stays there until it is let."""
        held = self.call(0)
        await self.graph.batch_entered()
        return held


@asynccontextmanager
async def bench(
    *, max_batch_rows: int = 8, max_queue_rows: int = 100, graph: Any = None, buckets: Sequence[int] = ()
) -> AsyncIterator[Bench]:
    with ThreadPoolExecutor(1) as executor:
        made = Bench(graph or HeldGraph(), executor, max_batch_rows, max_queue_rows, buckets)
        made.batcher.start()
        try:
            async with asyncio.timeout(BACKSTOP_SECONDS):
                yield made
                assert made.notes.queue_rows == 0
        finally:
            made.graph.open()
            await made.batcher.close()
            made.workers.close()


def doubled(result: Result) -> Any:
    return result.outputs["double"].tolist()


async def test_a_call_on_an_idle_engine_runs_at_once_and_alone() -> None:
    async with bench() as b:
        held = await b.hold_engine()
        assert b.graph.batches == [[0]]
        b.graph.let_one_run()
        assert doubled(await held) == [0]
        assert b.notes.batches == [1]


async def test_what_piles_up_while_the_engine_is_busy_becomes_one_batch() -> None:
    async with bench() as b:
        await b.hold_engine()
        calls = [b.call(10, 2), b.call(20), b.call(30, 3)]
        await turn_loop()
        assert b.notes.queue_rows == 6
        b.graph.open()
        assert [doubled(result) for result in await asyncio.gather(*calls)] == [[20, 22], [40], [60, 62, 64]]
        assert b.graph.batches == [[0], [10, 11, 20, 30, 31, 32]]


async def test_each_caller_gets_the_outputs_it_asked_for_and_no_other() -> None:
    async with bench() as b:
        await b.hold_engine()
        x = {"x": np.array([3, 4])}
        one, both = (asyncio.create_task(b.batcher.submit(x, names)) for names in (["square"], ["double", "square"]))
        await turn_loop()
        b.graph.open()
        assert {name: rows.tolist() for name, rows in (await one).outputs.items()} == {"square": [[3, 9], [4, 16]]}
        assert set((await both).outputs) == {"double", "square"}
        assert b.graph.wanted == [["double"], ["double", "square"]]


async def test_a_call_larger_than_a_batch_comes_back_whole_and_its_times_add_up() -> None:
    async with bench(max_batch_rows=4) as b:
        b.graph.open()
        before = asyncio.get_running_loop().time()
        result = await b.call(0, 30)
        elapsed = asyncio.get_running_loop().time() - before
        assert doubled(result) == list(range(0, 60, 2))
        assert max(b.notes.batches) <= 4
        assert result.timing.queue_ns >= 0
        assert result.timing.compute_ns > 0
        assert result.timing.queue_ns + result.timing.compute_ns <= elapsed * 1e9
        assert b.notes.waits == [result.timing.queue_ns / 1e9]


async def test_a_small_call_is_not_held_up_by_a_huge_one() -> None:
    async with bench(max_batch_rows=8, max_queue_rows=10_000) as b:
        huge = b.call(1000, 5000)
        await b.graph.batch_entered()
        small = b.call(1)
        await turn_loop()
        b.graph.let_one_run()  # the batch that held the huge call alone
        b.graph.let_one_run()  # the one that was full, and joined, when the small call came
        b.graph.let_one_run()
        assert doubled(await small) == [2]
        assert len(b.graph.batches) <= 4
        b.graph.open()
        assert len(doubled(await huge)) == 5000


async def test_a_run_is_answered_while_the_next_batch_is_still_being_joined() -> None:
    rows = 2 * INLINE_BYTES // 8  # of int64: too many to be joined on the event loop
    async with bench(max_batch_rows=rows, max_queue_rows=rows) as b:
        held, busy = await b.hold_engine(), threading.Event()
        blocker = asyncio.create_task(b.workers.run(INLINE_BYTES, busy.wait))
        await turn_loop()
        halves = [b.call(first, rows // 2) for first in (0, rows // 2)]
        await turn_loop()
        assert b.notes.queue_rows == 0, "the batch is full and waits for the worker that joins it"
        b.graph.let_one_run()
        try:
            assert doubled(await held) == [0]
        finally:
            busy.set()
        await blocker
        b.graph.open()
        assert doubled(await halves[1]) == list(range(rows, 2 * rows, 2))


async def test_a_full_queue_refuses_at_once_and_admits_again_later() -> None:
    async with bench(max_queue_rows=10) as b:
        held = await b.hold_engine()
        waiting = b.call(10, 10)
        refused = b.call(50)
        await turn_loop()
        assert refused.done()
        with pytest.raises(Overloaded, match="10 of at most 10 rows wait; 1 more do not fit"):
            await refused
        b.graph.let_one_run()
        await held
        await b.graph.batch_entered()
        admitted = b.call(60, 8)
        b.graph.open()
        assert doubled(await admitted) == list(range(120, 136, 2))
        await waiting


@pytest.mark.parametrize("leaver", range(4))
async def test_a_caller_that_leaves_a_running_batch_leaves_the_others_answered(leaver: int) -> None:
    async with bench() as b:
        held = await b.hold_engine()
        calls = [b.call(10 * i, 2) for i in range(1, 5)]
        await turn_loop()
        b.graph.let_one_run()
        await held
        await b.graph.batch_entered()
        calls[leaver].cancel()
        b.graph.open()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(outcomes.pop(leaver), asyncio.CancelledError)
        expected = [[20 * i, 20 * i + 2] for i in range(1, 5) if i != leaver + 1]
        assert [doubled(result) for result in outcomes if isinstance(result, Result)] == expected
        assert b.notes.drops == {"cancelled": 1}


async def test_a_caller_that_leaves_before_its_batch_never_reaches_the_graph() -> None:
    async with bench(max_batch_rows=64) as b:
        await b.hold_engine()
        calls = [b.call(10), b.call(20, 50), b.call(30)]
        await turn_loop()
        calls[0].cancel()
        calls[1].cancel()
        await turn_loop()
        assert b.notes.queue_rows == 1
        b.graph.open()
        assert doubled(await calls[2]) == [60]
        assert b.graph.batches == [[0], [30]]


async def test_a_caller_that_leaves_after_its_batch_was_joined_never_reaches_the_graph() -> None:
    async with bench(max_batch_rows=4) as b:
        await b.hold_engine()
        calls = [b.call(10, 2), b.call(20, 2)]
        await turn_loop()
        assert b.notes.queue_rows == 0, "the batch is full and joined"
        calls[0].cancel()
        await turn_loop()
        b.graph.open()
        assert doubled(await calls[1]) == [40, 42]
        assert b.graph.batches == [[0], [20, 21]]


async def test_closing_while_a_joined_batch_has_lost_all_its_callers_ends() -> None:
    async with bench(max_batch_rows=4) as b:
        held = await b.hold_engine()
        gone = b.call(10, 4)
        await turn_loop()
        assert b.notes.queue_rows == 0, "the batch is full and joined"
        gone.cancel()
        closing = asyncio.create_task(b.batcher.close())
        await turn_loop()
        b.graph.open()
        await closing
        assert doubled(await held) == [0]
        assert b.graph.batches == [[0]]


async def test_a_run_is_ended_when_the_last_of_its_callers_has_left() -> None:
    async with bench() as b:
        held = await b.hold_engine()
        b.graph.let_one_run()
        await held
        blocker = await b.hold_engine()
        calls = [b.call(10), b.call(20)]
        await turn_loop()
        b.graph.let_one_run()
        await blocker
        await b.graph.batch_entered()
        calls[0].cancel()
        await turn_loop()
        assert b.graph.cancels == 0
        calls[1].cancel()
        await turn_loop()
        assert b.graph.cancels == 1


async def test_bulk_calls_wait_for_interactive_ones_and_have_their_quarter() -> None:
    async with bench(max_batch_rows=8) as b:
        await b.hold_engine()
        bulk = b.call(100, 4, bulk=True)
        interactive = [b.call(10 * n, 2) for n in range(1, 4)]
        await turn_loop()
        b.graph.open()
        await asyncio.gather(bulk, *interactive)
        assert b.graph.batches == [[0], [10, 11, 20, 21, 30, 31, 100, 101], [102, 103]]


async def test_batches_are_padded_to_a_bucket_and_the_padding_is_nobodys() -> None:
    async with bench(max_batch_rows=8, buckets=(1, 2, 4, 8)) as b:
        held = await b.hold_engine()
        calls = [b.call(10, 2), b.call(20, 3)]
        await turn_loop()
        b.graph.open()
        assert [doubled(await call) for call in (held, *calls)] == [[0], [20, 22], [40, 42, 44]]
        assert b.graph.batches == [[0], [10, 11, 20, 21, 22, 0, 0, 0]]
        assert b.notes.paddings == [0, 3]
        assert b.notes.batches == [1, 5]


async def test_a_reply_says_how_large_its_batch_was() -> None:
    async with bench(max_batch_rows=8) as b:
        held = await b.hold_engine()
        calls = [b.call(10, 2), b.call(20, 3)]
        await turn_loop()
        b.graph.open()
        assert [(await call).timing.batch_rows for call in (held, *calls)] == [1, 5, 5]


async def test_a_large_call_that_leaves_midway_takes_no_more_batches() -> None:
    async with bench(max_batch_rows=4) as b:
        large = b.call(0, 40)
        await b.graph.batch_entered()
        large.cancel()
        await turn_loop()
        b.graph.open()
        assert doubled(await b.call(100)) == [200]
        assert b.graph.batches == [[0, 1, 2, 3], [100]]


async def test_a_batch_that_fails_fails_its_own_callers_alone() -> None:
    async with bench(max_batch_rows=4) as b:
        held = await b.hold_engine()
        calls = [b.call(-3, 2), b.call(10), b.call(20, 3), b.call(30)]
        await turn_loop()
        b.graph.open()
        outcomes = await asyncio.gather(held, *calls, return_exceptions=True)
        assert b.graph.failed == [[-3, -2, 10]]
        assert [type(result) for result in outcomes] == [Result, EngineFailure, EngineFailure, Result, Result]


async def test_a_large_call_fails_with_its_first_failing_batch_and_runs_no_further() -> None:
    async with bench(max_batch_rows=4) as b:
        b.graph.open()
        with pytest.raises(EngineFailure, match="a row is negative"):
            await b.call(-6, 40)
        assert doubled(await b.call(100)) == [200]
        assert b.graph.batches == [[-6, -5, -4, -3], [100]]


async def test_a_deadline_that_passes_in_the_queue_costs_no_run() -> None:
    async with bench() as b:
        held = await b.hold_engine()
        late = b.call(10, deadline=asyncio.get_running_loop().time())
        punctual = b.call(20, deadline=asyncio.get_running_loop().time() + BACKSTOP_SECONDS)
        await turn_loop()
        b.graph.open()
        with pytest.raises(DeadlineExpired, match="waited"):
            await late
        assert doubled(await punctual) == [40]
        await held
        assert b.graph.batches == [[0], [20]]
        assert b.notes.drops == {"deadline": 1}


async def test_closing_ends_the_running_batch_and_refuses_what_waits_and_what_comes() -> None:
    async with bench() as b:
        held = await b.hold_engine()
        waiting = b.call(10)
        await turn_loop()
        closing = asyncio.create_task(b.batcher.close())
        await turn_loop()
        assert not closing.done()
        late = b.call(20)
        b.graph.open()
        await closing
        assert doubled(await held) == [0]
        for refused in (waiting, late):
            with pytest.raises(ShuttingDown):
                await refused
        assert b.graph.batches == [[0]]
