"""Long work in turns: in order, fairly, ended by its caller's leaving, and in nobody's way."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest
from held_graph import turn_loop
from held_work import HeldWork

from latentserve_server.workers import INLINE_BYTES, Workers


async def test_the_parts_of_a_work_are_done_in_order_and_off_the_event_loop(workers: Workers) -> None:
    threads = await workers.run_each([threading.get_ident] * 3)
    assert threading.get_ident() not in threads
    assert await workers.run_each(partial(str, i) for i in range(4)) == ["0", "1", "2", "3"]
    assert await workers.run_each([]) == []


async def test_callers_with_many_parts_alternate(workers: Workers) -> None:
    work, done = HeldWork(), list[str]()
    first = asyncio.create_task(workers.run_each([work.hold, *[partial(done.append, "first")] * 3]))
    await work.entered()
    second = asyncio.create_task(workers.run_each([partial(done.append, "second")] * 2))
    await turn_loop()
    work.open()
    await asyncio.gather(first, second)
    assert done == ["second", "first", "second", "first", "first"]


async def test_who_is_cancelled_begins_no_further_part(workers: Workers) -> None:
    work, done = HeldWork(), list[str]()
    gone = asyncio.create_task(workers.run_each([work.hold, partial(done.append, "of one who has gone")]))
    await work.entered()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    work.open()
    await workers.run_each([partial(done.append, "of the next")])
    assert done == ["of the next"]


async def test_who_is_cancelled_before_a_turn_came_begins_nothing(workers: Workers) -> None:
    work, done = HeldWork(), list[str]()
    held = asyncio.create_task(workers.run_each([work.hold]))
    await work.entered()
    gone = asyncio.create_task(workers.run_each([partial(done.append, "of one who has gone")]))
    await turn_loop()
    gone.cancel()
    await turn_loop()
    work.open()
    await held
    await workers.run_each([partial(done.append, "of the next")])
    assert done == ["of the next"]


async def test_work_in_turns_holds_up_no_other_work(workers: Workers) -> None:
    work = HeldWork()
    held = asyncio.create_task(workers.run_each([work.hold]))
    await work.entered()
    assert await workers.run(INLINE_BYTES, str, 5) == "5"
    work.open()
    await held


async def test_a_part_that_fails_fails_its_own_caller(workers: Workers) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await workers.run_each([partial(int, "1"), partial(int, "x")])
    assert await workers.run_each([partial(int, "1")]) == [1]
