"""Streams of samples from a real server, by both clients: what sampling brings, in chunks of every format."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from client.served_linear import MODELS, noise, to_uint8
from numpy.typing import NDArray

from latentserve_client import Client, Samples

Collect = Callable[..., Awaitable[list[Samples]]]


def rows_of(chunks: list[Samples]) -> NDArray[Any]:
    return np.concatenate([chunk.images for chunk in chunks])


async def test_a_stream_brings_what_sampling_does(collect: Collect, target: str) -> None:
    how: dict[str, Any] = {"seed": 7, "temperature": 0.5, "truncation": 1.0}
    chunks = await collect("linear", 10, first_index=3, chunk_rows=4, **how)
    assert [(chunk.first_index, len(chunk.images)) for chunk in chunks] == [(3, 4), (7, 4), (11, 2)]
    assert {(chunk.seed, chunk.served.version) for chunk in chunks} == {(7, 2)}
    with Client(target) as client:
        expected = rows_of([client.sample("linear", 1, first_index=3 + row, **how) for row in range(10)])
    np.testing.assert_allclose(rows_of(chunks), expected, atol=1e-6)


async def test_chunks_come_in_every_format(collect: Collect) -> None:
    floats = rows_of(await collect("linear", 6, seed=1))
    np.testing.assert_allclose(floats, MODELS[2].images(noise(1, 0, 6)), atol=1e-5)
    assert rows_of(await collect("linear", 6, seed=1, format="float16")).dtype == np.float16
    quantised = rows_of(await collect("linear", 6, seed=1, format="uint8"))
    np.testing.assert_allclose(quantised, to_uint8(floats), atol=1)
    for form in ("png", "jpeg", "webp"):
        assert [len(chunk.files) for chunk in await collect("linear", 6, format=form, chunk_rows=4)] == [4, 2]
    grids = await collect("linear", 6, format="png", grid_columns=2, chunk_rows=5)
    assert [(chunk.first_index, len(chunk.files)) for chunk in grids] == [(0, 1), (5, 1)]


async def test_a_stream_that_is_left_can_be_taken_up_again(target: str) -> None:
    with Client(target) as client:
        with client.stream_samples("linear", 2**40, seed=3) as stream:
            chunks, at = [next(stream)], stream.next_index
        chunks += client.stream_samples("linear", 6, seed=3, first_index=at)
    np.testing.assert_allclose(rows_of(chunks), MODELS[2].images(noise(3, 0, at + 6)), atol=1e-5)
