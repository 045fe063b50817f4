"""The spans of a queue and its batches: links between calls that share a run, and calls that never reach one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np
import pytest
from held_graph import BACKSTOP_SECONDS, HeldGraph, Notes, batch_limits, turn_loop
from trace_receiver import TraceReceiver, trace_receiver

from latentserve_server.batching.batcher import Batcher
from latentserve_server.batching.scheduling import Result, Scheduling
from latentserve_server.errors import DeadlineExpired, EngineFailure
from latentserve_server.telemetry.tracing.calls import current_call
from latentserve_server.telemetry.tracing.spans import OpenTelemetrySpans
from latentserve_server.workers import Workers


class Bench:
    """A batcher over a held graph, with batches of 8 rows, and calls of it that are traced."""

    def __init__(self, executor: ThreadPoolExecutor, receiver: TraceReceiver) -> None:
        self.graph = HeldGraph()
        self.receiver = receiver
        self.workers = Workers(1)
        self._spans = OpenTelemetrySpans(receiver.endpoint, "0")
        traces = self._spans.of_graph("model", 1, "decoder")
        self.batcher = Batcher(self.graph, executor, self.workers, Notes(), batch_limits(8, 100), traces=traces)

    def call(self, name: str, first: int, rows: int = 1, deadline: float = float("inf")) -> asyncio.Task[Result]:
        """A call with the rows first, first + 1, ..., whose span has a name; without, it is not traced."""

        async def answer() -> Result:
            trace = self._spans.begin(name, "", None, time.monotonic_ns()) if name else None
            current_call.set(trace)
            try:
                return await self.batcher.submit({"x": np.arange(first, first + rows)}, ("double",), scheduling)
            finally:
                if trace is not None:
                    trace.end("model", "OK", "")

        scheduling = Scheduling(deadline)
        return asyncio.get_running_loop().create_task(answer(), context=copy_context())

    async def hold_engine(self) -> asyncio.Task[Result]:
        """A call that is not traced, and whose batch stays in the graph until it is let."""
        held = self.call("", 0)
        await self.graph.batch_entered()
        return held

    async def end(self) -> None:
        """Let everything run, and the spans come."""
        self.graph.open()
        await self.batcher.close()
        await asyncio.to_thread(self._spans.close, BACKSTOP_SECONDS)
        self.workers.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with asyncio.timeout(BACKSTOP_SECONDS), trace_receiver() as receiver:
        with ThreadPoolExecutor(1) as executor:
            made = Bench(executor, receiver)
            made.batcher.start()
            yield made
            made.graph.open()


async def test_a_batch_has_links_to_all_its_calls_and_they_to_it(bench: Bench) -> None:
    held = await bench.hold_engine()
    calls = [bench.call("a", 1, 2), bench.call("b", 3), bench.call("", 4)]
    await turn_loop()
    bench.graph.open()
    await asyncio.gather(held, *calls)
    await bench.end()
    a, b, batch = map(bench.receiver.only, ("a", "b", "batch"))
    assert batch.links == {a.place, b.place}
    assert (batch.trace_id, batch.parent_id) == a.place
    assert (batch.attributes["latentserve.batch.rows"], batch.attributes["latentserve.batch.calls"]) == (4, 3)
    queues = {span.parent_id: span for span in bench.receiver.named("queue")}
    assert queues.keys() == {a.span_id, b.span_id}
    assert all(span.links == {batch.place} for span in queues.values())
    assert bench.receiver.only("run").parent_id == batch.span_id


async def test_a_call_that_is_cut_is_in_all_its_batches_and_waits_until_the_first(bench: Bench) -> None:
    held = await bench.hold_engine()
    call = bench.call("a", 1, 20)
    await turn_loop()
    bench.graph.open()
    await asyncio.gather(held, call)
    await bench.end()
    a, batches, queue = bench.receiver.only("a"), bench.receiver.named("batch"), bench.receiver.only("queue")
    assert [batch.attributes["latentserve.batch.rows"] for batch in batches] == [8, 8, 4]
    assert all(batch.links == {a.place} for batch in batches)
    assert queue.links == {batches[0].place}
    assert queue.span.end_time_unix_nano == batches[0].span.start_time_unix_nano
    assert len(bench.receiver.named("run")) == 3


async def test_a_wait_that_the_deadline_ends_is_an_error_and_in_no_batch(bench: Bench) -> None:
    held = await bench.hold_engine()
    loop = asyncio.get_running_loop()
    call = bench.call("a", 1, deadline=loop.time() + 0.01)
    late = asyncio.Event()
    loop.call_later(0.02, late.set)
    await late.wait()
    bench.graph.open()
    await held
    with pytest.raises(DeadlineExpired):
        await call
    await bench.end()
    queue = bench.receiver.only("queue")
    assert queue.is_error
    assert queue.span.end_time_unix_nano - queue.span.start_time_unix_nano >= 10_000_000
    assert bench.receiver.named("batch") == []


async def test_a_wait_that_the_caller_ends_is_an_error(bench: Bench) -> None:
    held = await bench.hold_engine()
    call = bench.call("a", 1)
    await turn_loop()
    call.cancel()
    bench.graph.open()
    await asyncio.wait((held, call))
    await bench.end()
    assert bench.receiver.only("queue").is_error
    assert bench.receiver.named("batch") == []


async def test_a_caller_who_leaves_a_run_has_waited_until_it_began(bench: Bench) -> None:
    call = bench.call("a", 1)
    await bench.graph.batch_entered()
    call.cancel()
    await asyncio.wait((call,))
    await bench.end()
    assert not bench.receiver.only("queue").is_error
    assert bench.receiver.only("batch").links == {bench.receiver.only("a").place}


async def test_a_batch_that_fails_is_an_error_and_its_wait_is_none(bench: Bench) -> None:
    bench.graph.open()
    with pytest.raises(EngineFailure):
        await bench.call("a", -1)
    await bench.end()
    batch = bench.receiver.only("batch")
    assert batch.is_error
    assert batch.span.status.message == "a row is negative"
    assert batch.attributes["error.type"] == "EngineFailure"
    assert not bench.receiver.only("queue").is_error
    assert bench.receiver.named("run") == []
