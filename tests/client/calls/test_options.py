"""The options of calls, as they reach a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from latentserve.v1 import generation_pb2
from latentserve_client import Axis, Seeds

Invoke = Callable[..., Awaitable[Any]]
Attempts = list[tuple[str, str, Any]]


PICTURES = np.zeros((1, 3, 4, 6), np.uint8)


async def test_the_way_is_the_one_asked_for(invoke: Invoke, attempts: Attempts) -> None:
    await invoke("interpolate", "linear", Seeds([1]), Seeds([2]), 4)
    await invoke("interpolate", "linear", Seeds([1]), Seeds([2]), 4, spherical=True)
    paths = [request.path for _, _, request in attempts]
    assert paths == [generation_pb2.PATH_LINEAR, generation_pb2.PATH_SPHERICAL]


async def test_a_seed_and_draws_are_sent_where_they_are_given(invoke: Invoke, attempts: Attempts) -> None:
    await invoke("score", "linear", PICTURES, draws=3)
    await invoke("score", "linear", PICTURES, draws=3, seed=0, first_index=7)
    without, seeded = (request for _, _, request in attempts)
    assert (without.draws, without.HasField("seed")) == (3, False)
    assert (seeded.HasField("seed"), seeded.seed, seeded.first_index) == (True, 0, 7)


async def test_shaping_is_sent_where_it_is_given(invoke: Invoke, attempts: Attempts) -> None:
    for shaping in ({"temperature": 0}, {"truncation": 0.5}, {"psi": 0}, {}):
        await invoke("sample", "linear", 3, **shaping)
    shapings = [request.shaping for _, _, request in attempts]
    assert [shaping.HasField("temperature") for shaping in shapings] == [True, False, False, False]
    assert [shaping.HasField("truncation") for shaping in shapings] == [False, True, False, False]
    assert [shaping.HasField("psi") for shaping in shapings] == [False, False, True, False]


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("sample", (1,)),
        ("encode", (PICTURES,)),
        ("decode", (np.zeros((1, 5)),)),
        ("reconstruct", (PICTURES,)),
        ("interpolate", (Seeds([1]), Seeds([2]), 2)),
        ("traverse", ([Axis(0, -1, 1, 2)],)),
        ("score", (PICTURES,)),
    ],
)
async def test_every_call_has_a_priority(
    invoke: Invoke, attempts: Attempts, method: str, args: tuple[Any, ...]
) -> None:
    for priority in (None, "bulk", "interactive"):
        await invoke(method, "linear", *args, priority=priority)
    assert [request.priority for _, _, request in attempts] == [
        generation_pb2.PRIORITY_UNSPECIFIED,
        generation_pb2.PRIORITY_BULK,
        generation_pb2.PRIORITY_INTERACTIVE,
    ]
