"""A coroutine without a task: it begins and goes on at once, and ends where its caller goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from latentserve_server.batching.batch import AwaitedResult
from latentserve_server.batching.scheduling import Result, Timing
from latentserve_server.wire.exchange import Driver

RESULT = Result({}, Timing())


class Told:
    """What a coroutine was given, and how it ended."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    async def follow(self, *awaited: asyncio.Future[Any]) -> None:
        """Await one future after another."""
        try:
            for future in awaited:
                self.results.append(await future)
        except asyncio.CancelledError:
            self.results.append("cancelled")
        except ValueError as error:
            self.results.append(str(error))


async def test_it_begins_at_once_and_goes_on_with_a_result_as_soon_as_there_is_one() -> None:
    told, first, second = Told(), AwaitedResult(), AwaitedResult()
    driver = Driver(told.follow(first, second))
    assert not driver.done()
    first.settle(RESULT)
    assert told.results == [RESULT]
    second.settle(ValueError("wrong"))
    assert told.results == [RESULT, "wrong"]
    assert driver.done()


async def test_it_awaits_other_futures_as_a_task_does() -> None:
    told, future, work = Told(), asyncio.get_running_loop().create_future(), asyncio.ensure_future(asyncio.sleep(0, 5))
    driver = Driver(told.follow(future, work))
    future.set_result(3)
    await asyncio.wait((work,))
    await asyncio.sleep(0)
    assert told.results == [3, 5]
    assert driver.done()


async def test_it_is_cancelled_where_it_waits_for_a_result() -> None:
    told, result = Told(), AwaitedResult()
    driver = Driver(told.follow(result))
    driver.cancel()
    assert told.results == ["cancelled"]
    assert result.cancelled()
    assert driver.done()
    driver.cancel()


async def test_it_is_cancelled_where_it_waits_for_another_future() -> None:
    told, future = Told(), asyncio.get_running_loop().create_future()
    driver = Driver(told.follow(future))
    driver.cancel()
    await asyncio.sleep(0)
    assert told.results == ["cancelled"]
    assert driver.done()


async def test_one_that_waits_for_nothing_is_done_at_once() -> None:
    assert Driver(Told().follow()).done()


async def test_it_is_cancelled_though_what_it_waited_for_has_just_come_and_twice_is_once() -> None:
    told, future = Told(), asyncio.get_running_loop().create_future()
    driver = Driver(told.follow(future, asyncio.get_running_loop().create_future()))
    future.set_result(3)
    driver.cancel()
    driver.cancel()
    await asyncio.sleep(0)
    assert told.results == ["cancelled"]
    assert driver.done()


async def test_what_it_raises_is_logged_and_reaches_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(result: AwaitedResult) -> None:
        await result
        raise KeyError("mistake")

    result = AwaitedResult()
    driver = Driver(fail(result))
    result.settle(RESULT)
    assert driver.done()
    assert "mistake" in caplog.text
