"""Graphs that do not keep to what they promise: their callers get an error, and the batcher lives on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from held_graph import Notes, batch_limits, settle
from numpy.typing import NDArray

from latentserve_server.batching.batcher import Batcher
from latentserve_server.engine.engine import Cancellation
from latentserve_server.errors import EngineFailure
from latentserve_server.workers import Workers

Rows = NDArray[Any]


@dataclass
class Misbehaving:
    """Answers x with itself, but for a batch that begins with zero, which it answers as it likes."""

    answer: Any

    def run(self, inputs: Mapping[str, Rows], outputs: Sequence[str], cancellation: Cancellation) -> Mapping[str, Rows]:
        """Compute."""
        x = inputs["x"]
        if x[0] != 0:
            return {"y": x}
        result: Mapping[str, Rows] = self.answer(x)
        return result


def raise_anything(_: Rows) -> Mapping[str, Rows]:
    raise ZeroDivisionError("in the graph")


ANSWERS = {
    "a row too few": lambda x: {"y": x[1:]},
    "a row too many": lambda x: {"y": np.append(x, 0)},
    "an output missing": lambda x: {"z": x},
    "no rows at all": lambda x: {"y": np.float32(1)},
    "any exception": raise_anything,
}


async def first_and_next(graph: Misbehaving, rows: int) -> list[Any]:
    """The results of a call whose first batch misbehaves, and of one that comes after it."""
    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher(graph, executor, Workers(1), Notes(), batch_limits(4, 100))
        batcher.start()
        results: list[Any] = []
        try:
            for inputs in ({"x": np.arange(rows)}, {"x": np.array([5, 6])}):
                call = asyncio.create_task(batcher.submit(inputs, ["y"]))
                for _ in range(2 + rows):
                    await settle(executor)
                assert call.done(), "the call hangs"
                results += await asyncio.gather(call, return_exceptions=True)
        finally:
            await batcher.close()
        return results


@pytest.mark.parametrize("rows", [3, 10], ids=["one batch", "several batches"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_a_misbehaving_graph_is_an_engine_failure_and_the_next_call_is_answered(answer: Any, rows: int) -> None:
    failure, outcome = await first_and_next(Misbehaving(answer), rows)
    assert isinstance(failure, EngineFailure)
    assert outcome.outputs["y"].tolist() == [5, 6]


async def test_rows_that_change_their_shape_between_batches_are_an_engine_failure() -> None:
    failure, outcome = await first_and_next(Misbehaving(lambda x: {"y": np.ones((len(x), 2))}), 10)
    assert isinstance(failure, EngineFailure)
    assert outcome.outputs["y"].tolist() == [5, 6]
