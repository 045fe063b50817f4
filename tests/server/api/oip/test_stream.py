"""A stream of requests is answered in its order, several at a time, and goes on after a request that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from held_graph import BACKSTOP_SECONDS
from hypothesis import given
from hypothesis import strategies as st
from inference_requests import arrays_of, infer_request, stub_of
from numpy.typing import NDArray
from refusal import invalid_field, refusal
from running_server import RunningServer, running_server
from tested_device import assert_agree
from tiny_bundle import TinyModel
from tiny_graph import FRAGILE_LIMIT

from latentserve.oip import inference_pb2 as pb
from latentserve_server.api.streams import answer_in_order
from latentserve_server.errors import ShuttingDown

STOPPING = "the server is stopping; ask another one"
LATENTS = np.random.default_rng(5).standard_normal((40, 3)).astype(np.float32)


def requests(*sizes: int) -> list[pb.ModelInferRequest]:
    """Requests for the first rows, as many as each size says; the id is the position."""
    return [infer_request("vae", "latent", LATENTS[:size], "image", id=str(i)) for i, size in enumerate(sizes)]


async def stream(served: RunningServer, *stream: pb.ModelInferRequest) -> list[pb.ModelStreamInferResponse]:
    call: Any = stub_of(served).ModelStreamInfer(iter(stream))
    return [response async for response in call]


async def image(served: RunningServer, latents: NDArray[np.float32]) -> NDArray[Any]:
    return arrays_of(await stub_of(served).ModelInfer(infer_request("vae", "latent", latents)))["image"]


async def test_each_request_has_its_response_in_order(served: RunningServer) -> None:
    sizes = [(7 * i) % 23 + 1 for i in range(50)]
    expected = await image(served, LATENTS[:23])
    responses = await stream(served, *requests(*sizes))
    assert [response.infer_response.id for response in responses] == [str(i) for i in range(50)]
    for size, response in zip(sizes, responses, strict=True):
        assert response.error_message == ""
        assert response.infer_response.parameters["triton_final_response"].bool_param
        assert_agree(arrays_of(response.infer_response)["image"], expected[:size])


async def test_a_request_that_fails_is_answered_in_its_place(served: RunningServer) -> None:
    good, endless, unknown, negative, last = requests(1, 33, 1, 1, 2)
    unknown.model_name, unknown.model_version = "nix", "3"
    negative.inputs[0].shape[0] = -(2**63)
    responses = await stream(served, good, endless, unknown, negative, last)
    assert [parameters_of(response).get("status_code") for response in responses] == [
        None,
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "INVALID_ARGUMENT",
        None,
    ]
    assert [bool(response.error_message) for response in responses] == [False, True, True, True, False]
    failed = responses[2].infer_response
    assert (failed.id, failed.model_name, failed.model_version) == ("2", "nix", "3")
    assert failed.parameters["triton_final_response"].bool_param
    assert not failed.outputs


def parameters_of(answer: pb.ModelStreamInferResponse) -> dict[str, Any]:
    """The parameters of a response but for the one that all of them have."""
    parameters = {**answer.infer_response.parameters}
    assert parameters.pop("triton_final_response").bool_param
    return {name: getattr(value, value.WhichOneof("parameter_choice") or "") for name, value in parameters.items()}


async def test_a_refusal_has_the_status_that_the_call_alone_would_have(served: RunningServer) -> None:
    good, endless, unknown = requests(1, 33, 1)
    unknown.model_name = "nix"
    responses = await stream(served, good, endless, unknown)
    answered, *refused = map(parameters_of, responses)
    assert answered.keys() <= {"numerics"}
    assert refused == [
        {"status_code": "INVALID_ARGUMENT"},
        {"status_code": "NOT_FOUND"},
    ]


async def test_a_full_queue_says_in_the_stream_when_to_come_back(tmp_path: Path) -> None:
    TinyModel(slow=True).write(tmp_path / "vae" / "1")
    limits = {"max_batch_rows": 8, "max_queue_rows": 4, "max_rows_per_request": 4, "drain_timeout": 0}
    async with running_server(tmp_path, metrics_listen="127.0.0.1:0", **limits) as served:
        endless = infer_request("vae", "latent", np.full((1, 3), 2e9, np.float32))
        held: list[Any] = [stub_of(served).ModelInfer(endless)]
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while not await served.metric("requests_in_flight") or await served.metric("queue_rows"):
                pass
            held += [stub_of(served).ModelInfer(endless) for _ in range(4)]
            while await served.metric("queue_rows") != 4:
                pass
        (answer,) = await stream(served, *requests(1))
        assert answer.error_message
        parameters = parameters_of(answer)
        assert parameters.pop("retry_after_ms") >= 50
        assert parameters == {"status_code": "RESOURCE_EXHAUSTED"}
        for call in held:
            call.cancel()


async def test_a_run_that_fails_fails_its_requests_and_not_the_stream(tmp_path: Path) -> None:
    TinyModel(fragile=True).write(tmp_path / "vae" / "1")
    async with running_server(tmp_path) as served:
        fatal = infer_request("vae", "latent", np.full((1, 3), FRAGILE_LIMIT, np.float32))
        call: Any = stub_of(served).ModelStreamInfer()
        answers = []
        for request in (fatal, *requests(1)):
            await call.write(request)
            answers.append(await call.read())
        await call.done_writing()
        assert [bool(answer.error_message) for answer in answers] == [True, False]
        assert "\n" not in answers[0].error_message
        assert await call.read() is grpc.aio.EOF


async def test_requests_of_one_stream_share_batches(tmp_path: Path) -> None:
    TinyModel(slow=True).write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_batch_rows=8, metrics_listen="127.0.0.1:0") as served:
        busy = infer_request("vae", "latent", np.full((1, 3), 1e5, np.float32))
        await stream(served, busy, *[infer_request("vae", "latent", np.zeros((1, 3), np.float32))] * 12)
        assert await served.metric("batch_rows_sum", graph="decoder") == 13
        assert await served.metric("batch_rows_count", graph="decoder") < 13


async def test_an_empty_stream_ends(served: RunningServer) -> None:
    assert await stream(served) == []


async def test_a_stream_is_one_call_with_an_id(repository: Path) -> None:
    async with running_server(repository, metrics_listen="127.0.0.1:0") as served:
        call: Any = stub_of(served).ModelStreamInfer(iter(requests(1, 2)), metadata=(("x-request-id", "s-1"),))
        assert [response.error_message async for response in call] == ["", ""]
        assert dict(await call.trailing_metadata())["x-request-id"] == "s-1"
        assert await served.metric("requests_total", method="ModelStreamInfer", model="vae", code="OK") == 1
        assert await served.metric("requests_in_flight", method="ModelStreamInfer") == 0


async def test_bytes_that_are_no_request_end_the_stream(served: RunningServer) -> None:
    call = served.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([b"\xff"]))
    assert await invalid_field(call.read()) == "request"


async def test_a_caller_that_goes_takes_its_requests_out_of_the_queue(tmp_path: Path) -> None:
    TinyModel(slow=True).write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_batch_rows=1, metrics_listen="127.0.0.1:0") as served:
        call: Any = stub_of(served).ModelStreamInfer()
        await call.write(infer_request("vae", "latent", np.zeros((1, 3), np.float32)))
        assert not (await call.read()).error_message
        for _ in range(8):
            await call.write(infer_request("vae", "latent", np.full((1, 3), 1e5, np.float32)))
        call.cancel()
        await image(served, np.zeros((1, 3), np.float32))
        assert await served.metric("queue_rows", graph="decoder") == 0
        assert await served.metric("batch_rows_sum", graph="decoder") <= 4


async def test_an_idle_stream_ends_as_soon_as_the_server_stops(repository: Path) -> None:
    async with running_server(repository, drain_timeout=2 * BACKSTOP_SECONDS) as served:
        call: Any = stub_of(served).ModelStreamInfer()
        await call.write(requests(1)[0])
        assert not (await call.read()).error_message
        async with asyncio.timeout(BACKSTOP_SECONDS):
            await served.server.stop()
        error = await refusal(call.read())
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, STOPPING)


@pytest.mark.slow
async def test_what_is_under_way_as_the_server_stops_is_answered_and_the_stream_ends(tmp_path: Path) -> None:
    TinyModel(slow=True).write(tmp_path / "vae" / "1")
    options = {"drain_timeout": 2 * BACKSTOP_SECONDS, "metrics_listen": "127.0.0.1:0"}
    async with running_server(tmp_path, **options) as served:
        call: Any = stub_of(served).ModelStreamInfer()
        await call.write(infer_request("vae", "latent", np.full((1, 3), 3e5, np.float32)))
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while not await served.metric("requests_in_flight") or await served.metric("queue_rows"):
                pass
            stopping = asyncio.create_task(served.server.stop())
            assert not (await call.read()).error_message
            error = await refusal(call.read())
            await stopping
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, STOPPING)


class Tally:
    """Answers weights with their squares, each after as many turns of the loop, and fails those over 30."""

    def __init__(self, weights: list[int]) -> None:
        self.weights = weights
        self.most_under_way = 0
        self.sent: list[int] = []
        self.draining = asyncio.Event()
        self.end_after: int | None = None
        self._under_way: list[int] = []

    def run(self, room: int) -> None:
        """Answer them all."""
        asyncio.run(self._run(room))

    async def _run(self, room: int) -> None:
        weigh = {"weigh": int, "room": room}
        await answer_in_order(self._requests(), self._answer, self._send, self.draining, **weigh)

    async def _requests(self) -> AsyncIterator[int]:
        for position, weight in enumerate(self.weights):
            if position == self.end_after:
                self.draining.set()
            yield weight

    async def _answer(self, weight: int) -> int:
        self._under_way.append(weight)
        if len(self._under_way) > 1:
            self.most_under_way = max(self.most_under_way, sum(self._under_way))
        for _ in range(weight):
            await asyncio.sleep(0)
        self._under_way.remove(weight)
        if weight > 30:
            raise KeyError(weight)
        return weight * weight

    async def _send(self, answer: int) -> None:
        self.sent.append(answer)


@given(weights=st.lists(st.integers(1, 30), max_size=30), room=st.integers(1, 60))
def test_answers_are_in_order_and_no_more_under_way_than_there_is_room(weights: list[int], room: int) -> None:
    tally = Tally(weights)
    tally.run(room)
    assert tally.sent == [weight * weight for weight in weights]
    assert tally.most_under_way <= room


@given(weights=st.lists(st.integers(1, 33), min_size=1, max_size=30))
def test_the_first_failure_ends_the_stream_as_itself(weights: list[int]) -> None:
    tally = Tally([*weights, 31])
    with pytest.raises(KeyError):
        tally.run(room=60)
    answered = next(position for position, weight in enumerate(tally.weights) if weight > 30)
    assert tally.sent == [weight * weight for weight in tally.weights[: len(tally.sent)]]
    assert len(tally.sent) <= answered


@given(weights=st.lists(st.integers(1, 30), min_size=1, max_size=30), after=st.integers(0, 29))
def test_a_stream_that_is_to_end_answers_what_it_has_begun(weights: list[int], after: int) -> None:
    tally = Tally(weights)
    tally.end_after = after
    if after < len(weights):
        with pytest.raises(ShuttingDown):
            tally.run(room=60)
    else:
        tally.run(room=60)
    assert tally.sent == [weight * weight for weight in weights[:after]]


async def test_streams_that_are_cancelled_at_any_moment_leave_no_bytes_under_way(repository: Path) -> None:
    async with running_server(repository, metrics_listen="127.0.0.1:0") as served:
        for turns in range(100):
            call: Any = stub_of(served).ModelStreamInfer()
            await call.write(requests(40)[0])
            for _ in range(turns % 10):
                await asyncio.sleep(0)
            call.cancel()
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while await served.metric("requests_in_flight"):
                pass
        assert await served.metric("request_bytes_in_flight") == 0
