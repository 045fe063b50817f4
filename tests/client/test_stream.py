"""Streams of samples: every row once, whatever breaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, assert_type

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from latentserve_client import (
    AsyncClient,
    AsyncSampleStream,
    Client,
    DeadlineExceededError,
    FailedPreconditionError,
    ReplyError,
    RequestError,
    ResourceExhaustedError,
    Samples,
    SampleStream,
    UnavailableError,
)

Attempts = list[tuple[str, str, Any]]
Collect = Callable[..., Awaitable[list[Samples]]]
BREAKS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def rows_of(chunks: list[Samples]) -> NDArray[Any]:
    return np.concatenate([chunk.images for chunk in chunks])


def sampled(target: str, count: int, **kwargs: Any) -> NDArray[Any]:
    """The same rows, asked for one by one."""
    first = kwargs.pop("first_index", 0)
    with Client(target) as client:
        return rows_of([client.sample("linear", 1, first_index=first + row, **kwargs) for row in range(count)])


async def test_each_client_has_streams_of_its_kind(target: str) -> None:
    with Client(target) as client:
        assert_type(client.stream_samples("linear", 1), SampleStream)
    async with AsyncClient(target) as client_:
        assert_type(client_.stream_samples("linear", 1), AsyncSampleStream)


@pytest.mark.parametrize("code", BREAKS, ids=lambda code: code.name)
async def test_a_stream_that_breaks_goes_on_where_it_stood(
    collect: Collect, target: str, faults: list[Any], attempts: Attempts, code: grpc.StatusCode
) -> None:
    faults.extend([(2, code), (1, code)])
    chunks = await collect("linear@stable", 20, seed=5, first_index=1, chunk_rows=3, request_id="job")
    requests = [request for _, _, request in attempts]
    assert [(request.first_index, request.count) for request in requests] == [(1, 20), (7, 14), (10, 11)]
    assert {request.seed for request in requests} == {5}
    assert {request_id for _, request_id, _ in attempts} == {"job"}
    assert [chunk.first_index for chunk in chunks] == [1, 4, 7, 10, 13, 16, 19]
    assert {chunk.served.request_id for chunk in chunks} == {"job"}
    with Client(target) as client:
        expected = rows_of([client.sample("linear:1", 5, seed=5, first_index=start) for start in (1, 6, 11, 16)])
    np.testing.assert_array_equal(rows_of(chunks), expected)


async def test_a_resumed_stream_stays_with_its_version_and_seed(
    collect: Collect, faults: list[Any], attempts: Attempts
) -> None:
    faults.extend([grpc.StatusCode.UNAVAILABLE, (1, grpc.StatusCode.UNAVAILABLE)])
    chunks = await collect("linear", 8)
    selectors = [request.model.WhichOneof("selector") for _, _, request in attempts]
    assert selectors == [None, None, "version"]
    assert attempts[-1][2].model.version == 2
    assert {request.seed for _, _, request in attempts} == {chunk.seed for chunk in chunks}


async def test_no_pause_goes_beyond_the_timeout(collect: Collect, faults: list[Any], attempts: Attempts) -> None:
    faults.extend([(1, grpc.StatusCode.UNAVAILABLE)] + [grpc.StatusCode.UNAVAILABLE] * 20)
    with pytest.raises(UnavailableError) as raised:
        await collect("linear", 8, timeout=1.0)
    assert raised.value.method == "StreamSamples"
    assert [request.first_index for _, _, request in attempts] == [0, 4, 4, 4]


async def test_a_busy_server_says_when_to_come_back(
    collect: Collect, target: str, faults: list[Any], attempts: Attempts, busy: Callable[[str], Any]
) -> None:
    faults.extend([(1, busy("50")), busy("-1")])
    with pytest.raises(ResourceExhaustedError):
        await collect("linear", 8)
    assert len(attempts) == 2
    faults.append((1, busy("50")))
    np.testing.assert_array_equal(rows_of(await collect("linear", 8, seed=2)), sampled(target, 8, seed=2))


@pytest.mark.parametrize("fault", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.FAILED_PRECONDITION])
async def test_other_statuses_end_the_stream(
    collect: Collect, faults: list[Any], attempts: Attempts, fault: grpc.StatusCode
) -> None:
    faults.append((1, fault))
    with pytest.raises((ResourceExhaustedError, FailedPreconditionError)) as raised:
        await collect("linear", 8)
    assert raised.value.code is fault
    assert len(attempts) == 1


async def test_the_timeout_is_that_of_one_chunk(collect: Collect, faults: list[Any], attempts: Attempts) -> None:
    faults.append((1, "stall"))
    with pytest.raises(DeadlineExceededError) as raised:
        await collect("linear", 8, timeout=2.0, request_id="slow")
    assert raised.value.message == "no chunk within the timeout of 2 s: the server was reached and is not done"
    assert raised.value.request_id == "slow"
    assert len(attempts) == 1


@pytest.mark.parametrize("field", ["count", "first_index", "chunk_rows", "temperature"])
def test_bad_arguments_are_refused_at_once(target: str, attempts: Attempts, field: str) -> None:
    arguments: dict[str, Any] = {"count": 2, field: -1}
    with Client(target) as client, pytest.raises(RequestError, match=f"^{field} "):
        client.stream_samples("linear", **arguments)
    assert attempts == []


def shift(response: Any) -> None:
    response.first_index += 1


def reseed(response: Any) -> None:
    response.seed += 1


def grow(response: Any) -> None:
    response.images.tensor.shape[0] = 9


def empty(response: Any) -> None:
    response.images.tensor.ClearField("shape")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shift, "first_index: the chunk begins at 5 of seed 3; 4 of 3 is next"),
        (reseed, "first_index: the chunk begins at 4 of seed 4; 4 of 3 is next"),
        (grow, "images: the chunk has 9 images; 4 are still to come"),
        (empty, "images: the chunk has 0 images; 4 are still to come"),
    ],
)
async def test_a_chunk_that_breaks_the_contract_is_an_error(
    collect: Collect, faults: list[Any], attempts: Attempts, spoil: Callable[[Any], None], message: str
) -> None:
    faults.append((1, spoil))
    with pytest.raises(ReplyError) as raised:
        await collect("linear", 8, seed=3)
    assert str(raised.value) == message
    assert len(attempts) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("end", "the stream ended with 4 images still to come"),
        ("more", "the stream goes on after the last image that was asked for"),
    ],
)
async def test_a_stream_of_the_wrong_length_is_an_error(
    collect: Collect, faults: list[Any], fault: str, message: str
) -> None:
    faults.append((1, fault))
    with pytest.raises(ReplyError) as raised:
        await collect("linear", 8)
    assert str(raised.value) == message
