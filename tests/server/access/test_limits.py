"""What one caller of a real server may have, and that others go on having theirs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from access_tokens import Metadata, TokenShelf
from certificates import CLIENT, LOCAL, Authority, tls_options
from held_graph import BACKSTOP_SECONDS
from inference_requests import infer_request, stub_of
from raw_connection import DATA, END_STREAM, HEADERS, Frame, begun, given_up, message, raw_connection
from refusal import refusal
from running_server import RunningServer, channel_to, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2

VAE = pb.ModelRef(name="vae")
LATENTS = np.zeros((2, 3), np.float32)
NEVER_AGAIN = 0.001
"""Calls a second, or rows, of which there is one in the time of a test."""


def sample(served: RunningServer, caller: Metadata, count: int = 1) -> Any:
    return served.generation.Sample(pb.SampleRequest(model=VAE, count=count, seed=1), metadata=caller)


async def over_limit(call: Any) -> tuple[str, int]:
    """What a refused caller is told, and after how many milliseconds it may come back."""
    error = await refusal(call)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return error.details() or "", int(dict(error.trailing_metadata() or ())["grpc-retry-pushback-ms"])


@pytest.fixture
async def limited(repository: Path, tokens: TokenShelf) -> AsyncIterator[RunningServer]:
    """A server that lets callers have one row, or two where their token says so."""
    tokens.add("default")
    tokens.add("more", rows_per_second=0, calls_per_second=2)
    options = {"tokens": str(tokens.path), "metrics_listen": "127.0.0.1:0", "caller_rows_per_second": NEVER_AGAIN}
    async with running_server(repository, **options) as served:
        yield served


async def test_rows_a_second_are_bounded_with_a_time_to_come_back(limited: RunningServer, tokens: TokenShelf) -> None:
    caller = tokens.metadata("default")
    await sample(limited, caller)
    message, pushback = await over_limit(sample(limited, caller))
    assert message == "the caller may have 0.001 rows a second"
    assert 900_000 < pushback <= 1_000_000
    assert await limited.metric("refused_callers_total", reason="rows") == 1
    for _ in range(2):
        await sample(limited, tokens.metadata("more"))


async def test_calls_a_second_are_bounded_whatever_they_ask_for(limited: RunningServer, tokens: TokenShelf) -> None:
    caller = tokens.metadata("more")
    for _ in range(2):
        await sample(limited, caller)
    described = limited.models.GetModel(models_pb2.GetModelRequest(), metadata=caller)
    message, pushback = await over_limit(described)
    assert message == "the caller may have 2 calls a second"
    assert 0 < pushback <= 500
    assert await limited.metric("refused_callers_total", reason="calls") == 1


async def test_a_call_larger_than_a_second_has_goes_once_and_is_paid_off(repository: Path, tokens: TokenShelf) -> None:
    caller = tokens.caller("bulk", rows_per_second=10)
    async with running_server(repository, tokens=str(tokens.path)) as served:
        await sample(served, caller, 1000)
        _, pushback = await over_limit(sample(served, caller))
        assert 90_000 < pushback <= 100_000


async def test_a_stream_of_samples_waits_and_is_not_refused(repository: Path, tokens: TokenShelf) -> None:
    caller = tokens.caller("bulk", rows_per_second=40, rows_in_flight=10)
    async with running_server(repository, tokens=str(tokens.path)) as served:
        loop = asyncio.get_running_loop()
        began = loop.time()
        request = pb.StreamSamplesRequest(model=VAE, count=60, chunk_rows=10)
        chunks = [chunk async for chunk in served.generation.StreamSamples(request, metadata=caller)]
        assert [chunk.first_index for chunk in chunks] == [0, 10, 20, 30, 40, 50]
        assert loop.time() - began >= 0.49  # 40 rows at once, and 20 at 40 a second


async def test_each_request_of_a_stream_of_inferences_counts(repository: Path, tokens: TokenShelf) -> None:
    caller = tokens.caller("stream", calls_per_second=3)
    async with running_server(repository, tokens=str(tokens.path)) as served:
        requests = [infer_request("vae", "latent", LATENTS)] * 5
        stream = stub_of(served).ModelStreamInfer(iter(requests), metadata=caller)
        answers = [answer async for answer in stream]
        assert [answer.error_message for answer in answers[:3]] == [""] * 3
        refused = [answer for answer in answers if answer.error_message]
        assert {answer.error_message for answer in refused} == {"the caller may have 3 calls a second"}
        assert all(answer.infer_response.parameters["retry_after_ms"].int64_param >= 50 for answer in refused)


@pytest.fixture
async def slow(tmp_path: Path, tokens: TokenShelf) -> AsyncIterator[RunningServer]:
    """A server whose model takes as long as the latents say; with tokens of two callers."""
    TinyModel(slow=True).write(tmp_path / "models" / "vae" / "1")
    tokens.add("one", rows_in_flight=4)
    tokens.add("other")
    options = {"max_batch_rows": 4, "max_rows_per_request": 16, "max_queue_rows": 80, "drain_timeout": 0}
    async with running_server(
        tmp_path / "models", tokens=str(tokens.path), metrics_listen="127.0.0.1:0", **options
    ) as served:
        yield served


async def hold(served: RunningServer, caller: Metadata) -> Any:
    """A call that runs until it is cancelled."""
    latents = from_ndarray(np.full((1, 3), 2e9, np.float32))
    call = served.generation.Decode(pb.DecodeRequest(model=VAE, latents=latents), metadata=caller)
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while not await served.metric("requests_in_flight") or await served.metric("queue_rows"):
            pass
    return call


async def waiting(served: RunningServer, rows: int) -> None:
    """Return once so many rows wait."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while await served.metric("queue_rows") != rows:
            pass


async def test_rows_in_flight_are_bounded_until_calls_end_or_leave(slow: RunningServer, tokens: TokenShelf) -> None:
    one, other = tokens.metadata("one"), tokens.metadata("other")
    held = await hold(slow, one)
    leaves = sample(slow, one, 3)
    await waiting(slow, 3)
    message, pushback = await over_limit(sample(slow, one))
    assert (message, pushback) == ("the caller may have 4 rows in flight", 50)
    stays = sample(slow, other, 16)
    await waiting(slow, 19)
    leaves.cancel()
    await waiting(slow, 16)
    again = sample(slow, one, 3)
    await waiting(slow, 19)
    held.cancel()
    await asyncio.gather(stays, again)
    await sample(slow, one, 16)  # alone, a call may be larger


async def test_calls_in_flight_are_bounded_until_they_end_or_leave(repository: Path, tokens: TokenShelf) -> None:
    one, other = tokens.caller("one", calls_in_flight=3), tokens.caller("other")
    options = {"tokens": str(tokens.path), "metrics_listen": "127.0.0.1:0"}
    async with running_server(repository, **options) as served, raw_connection(served.server.port) as silent:
        await silent.say(*(begun(number, fields=one) for number in (1, 3, 5, 7)))
        assert [frame.stream for frame in await silent.until(HEADERS)] == [7]
        stream = stub_of(served).ModelStreamInfer(metadata=one)
        assert await over_limit(stream.read()) == ("the caller may have 3 calls in flight", 50)
        for call in (sample(served, one), served.models.ListModels(models_pb2.ListModelsRequest(), metadata=one)):
            assert await over_limit(call) == ("the caller may have 3 calls in flight", 50)
        assert await served.metric("refused_callers_total", reason="calls_in_flight") == 4
        await sample(served, other)

        await silent.say(given_up(1))
        await answered_again(served, one)
        request = pb.SampleRequest(model=VAE, count=1).SerializeToString()
        await silent.say(Frame(DATA, END_STREAM, 3, message(request)))
        await silent.until(DATA)
        stays = [stub_of(served).ModelStreamInfer(metadata=one) for _ in range(2)]
        for stream in stays:
            await stream.write(infer_request("vae", "latent", LATENTS))
            assert not (await stream.read()).error_message
        await over_limit(sample(served, one))
        for stream in stays:
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF
        await answered_again(served, one)


async def answered_again(served: RunningServer, caller: Metadata) -> None:
    """Return once a call of the caller is answered."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while True:
            try:
                await sample(served, caller)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
            else:
                return


async def test_without_tokens_calls_in_flight_are_bounded_by_address(repository: Path) -> None:
    options = {"caller_calls_in_flight": 2, "metrics_listen": "127.0.0.1:0"}
    async with running_server(repository, **options) as served, raw_connection(served.server.port) as silent:
        await silent.say(*(begun(number) for number in (1, 3, 5)))
        (refused,) = await silent.until(HEADERS)
        assert refused.stream == 5
        assert (await over_limit(sample(served, ())))[0] == "the caller may have 2 calls in flight"
    async with running_server(repository, **options) as served:
        for _ in range(5):  # each leaves its place
            await sample(served, ())


async def test_a_caller_of_many_calls_holds_up_one_of_few_by_no_more_than_its_share(
    slow: RunningServer, tokens: TokenShelf
) -> None:
    one, other = tokens.metadata("one"), tokens.metadata("other")
    held = await hold(slow, other)
    ended: list[str] = []

    async def call(name: str, caller: Metadata) -> None:
        await sample(slow, caller)
        ended.append(name)

    many = [asyncio.create_task(call("many", other)) for _ in range(4)]
    many += [asyncio.create_task(call("many", other)) for _ in range(36)]  # a batch of them is joined already
    await waiting(slow, 36)
    few = [asyncio.create_task(call("few", one)) for _ in range(4)]
    await waiting(slow, 40)
    held.cancel()
    await asyncio.gather(*many, *few)
    assert Counter(ended[:12])["few"] == 4, ended


async def test_who_fills_the_queue_leaves_room_for_others(slow: RunningServer, tokens: TokenShelf) -> None:
    one, other = tokens.metadata("one"), tokens.metadata("other")
    held = await hold(slow, other)
    calls = [sample(slow, other, 4)]
    async with asyncio.timeout(BACKSTOP_SECONDS):  # until it is joined
        while await slow.metric("requests_in_flight") < 2 or await slow.metric("queue_rows"):
            pass
    calls += [sample(slow, other) for _ in range(60)]
    await waiting(slow, 60)
    message, _ = await over_limit(sample(slow, other))
    assert message.startswith("60 of at most 80 rows wait, 60 of them the caller's")
    calls.append(sample(slow, one, 4))
    await waiting(slow, 64)
    held.cancel()
    await asyncio.gather(*calls)


async def test_without_tokens_callers_are_told_apart_by_their_addresses(repository: Path) -> None:
    async with running_server(repository, listen="127.0.0.1:0", caller_calls_per_second=NEVER_AGAIN) as served:
        await sample(served, ())
        async with channel_to(served.server.port) as same:
            again = generation_pb2_grpc.GenerationServiceStub(same).Sample(pb.SampleRequest(model=VAE, count=1))
            await over_limit(again)
        elsewhere = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{served.server.port}", elsewhere) as channel:
            health: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            for _ in range(3):
                await health(b"")


async def test_without_tokens_callers_with_certificates_are_told_apart_by_their_names(
    repository: Path, tmp_path: Path
) -> None:
    authority = Authority()
    authority.issue(*LOCAL).write(tmp_path / "tls")
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    options = tls_options(tmp_path / "tls", tmp_path / "ca.crt")
    async with running_server(repository, caller_calls_per_second=NEVER_AGAIN, **options) as served:
        for name in ("one", "other"):
            issued = authority.issue(name, purpose=CLIENT)
            credentials = grpc.ssl_channel_credentials(authority.pem, issued.key, issued.certificate)
            own = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.secure_channel(f"127.0.0.1:{served.server.port}", credentials, own) as channel:
                generation = generation_pb2_grpc.GenerationServiceStub(channel)
                await generation.Sample(pb.SampleRequest(model=VAE, count=1))
                await over_limit(generation.Sample(pb.SampleRequest(model=VAE, count=1)))
