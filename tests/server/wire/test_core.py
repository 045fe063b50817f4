"""Every operation of gRPC's core that the server uses, with an ordinary client: what breaks where grpcio changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from certificates import LOCAL, Authority
from held_graph import BACKSTOP_SECONDS
from running_server import channel_to

from latentserve_server.wire.core import Call, Completions, CoreServer

METHOD = "/a.Service/Method"
OK = grpc.StatusCode.OK.value[0]


class AwaitedCall(Call):
    """A call of which a coroutine awaits what becomes of it."""

    def __init__(self, arrival: Any, completions: Completions) -> None:
        super().__init__(arrival, completions)
        self.message: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.has_ended = asyncio.Event()

    def received(self, message: bytes | None) -> None:
        self.message.set_result(message)

    def ended(self) -> None:
        self.has_ended.set()


Answer = Callable[[AwaitedCall], Awaitable[None]]


@asynccontextmanager
async def core_server(
    answer: Answer,
    *options: tuple[str, int],
    kind: type[AwaitedCall] = AwaitedCall,
    is_busy: Callable[[], bool] | None = None,
    credentials: grpc.ServerCredentials | None = None,
    connect: Callable[[int], grpc.aio.Channel] = channel_to,
) -> AsyncIterator[tuple[CoreServer, grpc.aio.Channel]]:
    """A server whose calls are answered by a coroutine, and a channel to it, which `connect` makes of its port."""
    completions = Completions(is_busy)
    server = CoreServer(completions, options)
    port = server.add_port("127.0.0.1:0", credentials)
    tasks = set[asyncio.Future[None]]()
    server.start(lambda arrival: tasks.add(asyncio.ensure_future(answer(kind(arrival, completions)))))
    async with asyncio.timeout(BACKSTOP_SECONDS), connect(port) as channel:
        yield server, channel
        await asyncio.gather(*tasks)
        await server.stop(0)
        completions.close()


async def received(call: AwaitedCall) -> bytes | None:
    """The next message of a call."""
    call.message = asyncio.get_running_loop().create_future()
    call.receive()
    return await call.message


async def sent(call: Call, message: bytes) -> None:
    """Return once there is room for another message."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    call.send(message, lambda: future.set_result(None))
    await future


async def ended(call: AwaitedCall) -> None:
    """Return once the call has ended."""
    call.watch()
    await call.has_ended.wait()
    assert call.closed


async def test_a_call_says_what_it_is_and_is_answered_with_a_message_and_a_status() -> None:
    async def answer(call: AwaitedCall) -> None:
        assert call.path == METHOD
        assert dict(call.metadata)["key"] == "value"
        assert dict(call.metadata)["key-bin"] == b"\xff"
        remaining = call.time_remaining()
        assert remaining is not None
        assert 50 < remaining <= 100
        message = await received(call)
        assert message is not None
        call.end(OK, "", (("trailer", "text"), ("trailer-bin", b"\x00")), b"reply to " + message)

    async with core_server(answer) as (_, channel):
        call: Any = channel.unary_unary(METHOD)
        asked = call(b"message", timeout=100, metadata=(("key", "value"), ("key-bin", b"\xff")))
        assert await asked == b"reply to message"
        assert dict(await asked.trailing_metadata()) == {"trailer": "text", "trailer-bin": b"\x00"}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a.example", "spiffe://example/a", "10.0.0.1"), ("a.example", "spiffe://example/a", "common")),
        (("common", "b.example"), ("common", "b.example")),
        ((), ("common",)),
    ],
)
async def test_a_call_tells_the_names_in_its_caller_s_certificate(
    names: tuple[str, ...], told: tuple[str, ...]
) -> None:
    authority = Authority()
    issued, client = authority.issue(*LOCAL), authority.issue(*names, common_name="common")
    pair = [(issued.key, issued.certificate)]
    credentials = grpc.ssl_server_credentials(pair, authority.pem, require_client_auth=True)

    def connect(port: int) -> grpc.aio.Channel:
        of_client = grpc.ssl_channel_credentials(authority.pem, client.key, client.certificate)
        return grpc.aio.secure_channel(f"127.0.0.1:{port}", of_client)

    assert await names_told(credentials, connect) == told


async def test_a_caller_without_a_certificate_has_no_names() -> None:
    authority = Authority()
    issued = authority.issue(*LOCAL)

    def connect(port: int) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(authority.pem))

    assert await names_told(grpc.ssl_server_credentials([(issued.key, issued.certificate)]), connect) == ()
    assert await names_told(None, channel_to) == ()


async def names_told(
    credentials: grpc.ServerCredentials | None, connect: Callable[[int], grpc.aio.Channel]
) -> tuple[str, ...]:
    found: list[tuple[str, ...]] = []

    async def answer(call: AwaitedCall) -> None:
        found.append(call.peer_names())
        call.end(OK, "", (), b"")

    async with core_server(answer, credentials=credentials, connect=connect) as (_, channel):
        call: Any = channel.unary_unary(METHOD)
        await call(b"")
    return found[0]


async def test_a_status_says_what_is_wrong() -> None:
    async def answer(call: AwaitedCall) -> None:
        assert call.time_remaining() is None
        call.end(grpc.StatusCode.NOT_FOUND.value[0], "n\u00f6t found", ())

    async with core_server(answer) as (_, channel):
        call: Any = channel.unary_unary(METHOD)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "n\u00f6t found")


async def test_streams_go_both_ways_and_end() -> None:
    async def answer(call: AwaitedCall) -> None:
        while (message := await received(call)) is not None:
            await sent(call, b"reply to " + message)
        call.end(OK, "", ())

    async with core_server(answer) as (_, channel):
        call: Any = channel.stream_stream(METHOD)
        replies = [reply async for reply in call(iter([b"1", b"", b"3"]))]
        assert replies == [b"reply to 1", b"reply to ", b"reply to 3"]


async def test_a_call_without_a_message_is_told_from_an_empty_message() -> None:
    async def answer(call: AwaitedCall) -> None:
        call.end(OK, "", (), repr(await received(call)).encode())

    async with core_server(answer) as (_, channel):
        call: Any = channel.stream_unary(METHOD)
        assert await call(iter([])) == b"None"
        assert await call(iter([b""])) == b"b''"


async def test_the_end_of_a_call_is_told_once_its_status_has_left() -> None:
    async def answer(call: AwaitedCall) -> None:
        call.end(OK, "", (), b"reply")
        await call.has_ended.wait()
        assert call.closed

    async with core_server(answer) as (_, channel):
        call: Any = channel.unary_unary(METHOD)
        assert await call(b"") == b"reply"


async def test_a_caller_who_goes_is_told_and_so_is_a_deadline_that_passes() -> None:
    arrived, told = asyncio.Event(), asyncio.Event()

    async def answer(call: AwaitedCall) -> None:
        arrived.set()
        await ended(call)
        await sent(call, b"which nobody gets")
        call.end(OK, "", ())
        told.set()

    async with core_server(answer) as (_, channel):
        call: Any = channel.unary_unary(METHOD)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"", timeout=0.2)
        await told.wait()
        arrived.clear()
        told.clear()
        asked = call(b"", timeout=100)
        running = asyncio.ensure_future(asked)
        await arrived.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await told.wait()


async def test_a_message_waits_for_its_reader() -> None:
    messages, taken = 64, 0

    async def answer(call: AwaitedCall) -> None:
        nonlocal taken
        for _ in range(messages):
            await sent(call, bytes(1 << 20))
            taken += 1
        call.end(OK, "", ())

    async with core_server(answer) as (_, channel):
        call: Any = channel.unary_stream(METHOD)
        stream = call(b"")
        assert len(await stream.read()) == 1 << 20
        assert taken < messages / 2
        read = 1
        while await stream.read() is not grpc.aio.EOF:
            read += 1
        assert read == taken == messages


async def test_a_message_that_is_too_long_is_none_and_ends_the_call() -> None:
    async def answer(call: AwaitedCall) -> None:
        assert await received(call) is None
        await ended(call)

    async with core_server(answer, ("grpc.max_receive_message_length", 100)) as (_, channel):
        call: Any = channel.unary_unary(METHOD)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(bytes(101))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_more_calls_than_a_burst_holds_are_all_told() -> None:
    async def answer(call: AwaitedCall) -> None:
        message = await received(call)
        call.end(OK, "", (), message)

    async with core_server(answer) as (_, channel):
        call: Any = channel.unary_unary(METHOD)
        messages = [str(number).encode() for number in range(600)]
        assert await asyncio.gather(*(call(message) for message in messages)) == messages


async def test_a_loop_that_waits_for_calls_answers_them_and_does_its_other_work() -> None:
    async def answer(call: AwaitedCall) -> None:
        message = await received(call)
        await asyncio.sleep(0)
        call.end(OK, "", (), message)

    async with core_server(answer, is_busy=lambda: False) as (_, channel):
        call: Any = channel.unary_unary(METHOD)
        for number in range(20):
            assert await call(b"%d" % number) == b"%d" % number
            await asyncio.sleep(0)
        messages = [str(number).encode() for number in range(600)]
        assert await asyncio.gather(*(call(message) for message in messages)) == messages


async def test_a_callback_that_fails_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    class BrokenCall(AwaitedCall):
        def ended(self) -> None:
            if self.message.result() == b"broken":
                raise ZeroDivisionError

    async def answer(call: AwaitedCall) -> None:
        await received(call)
        call.end(OK, "", (), b"reply")

    async with core_server(answer, kind=BrokenCall) as (_, channel):
        call: Any = channel.unary_unary(METHOD)
        await asyncio.gather(*(call(b"broken") for _ in range(10)))
        assert await call(b"") == b"reply"
    assert "ZeroDivisionError" in caplog.text


async def test_what_the_core_does_not_take_ends_its_call_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(call: AwaitedCall) -> None:
        broken = await received(call) == b"broken"
        no_text: Any = 5
        call.end(OK, "", (("key", no_text),) if broken else (), b"reply")

    async with core_server(answer) as (_, channel):
        call: Any = channel.unary_unary(METHOD)
        outcomes = await asyncio.gather(call(b"broken"), call(b"whole"), call(b"broken"), return_exceptions=True)
        assert isinstance(outcomes[0], grpc.aio.AioRpcError)
        assert outcomes[1] == b"reply"
        assert isinstance(outcomes[2], grpc.aio.AioRpcError)
    assert caplog.text.count("does not take what a call sends") == 2


async def test_text_that_is_no_unicode_does_not_stand_in_a_statuss_way() -> None:
    async def answer(call: AwaitedCall) -> None:
        call.end(grpc.StatusCode.NOT_FOUND.value[0], "\udcff", ())

    async with core_server(answer) as (_, channel):
        call: Any = channel.unary_unary(METHOD)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "?")


async def test_a_stop_ends_calls_after_its_grace() -> None:
    arrived = asyncio.Event()

    async def answer(call: AwaitedCall) -> None:
        arrived.set()
        await ended(call)

    async with core_server(answer) as (server, channel):
        call: Any = channel.unary_unary(METHOD)
        asked = asyncio.ensure_future(call(b""))
        await arrived.wait()
        began = time.monotonic()
        await server.stop(0.1)
        assert time.monotonic() - began >= 0.1
        with pytest.raises(grpc.aio.AioRpcError):
            await asked


async def test_a_port_that_is_taken_is_none() -> None:
    async def answer(call: AwaitedCall) -> None: ...

    async with core_server(answer, ("grpc.so_reuseport", 0)):
        completions = Completions()
        first, second = (CoreServer(completions, [("grpc.so_reuseport", 0)]) for _ in range(2))
        port = first.add_port("127.0.0.1:0")
        assert port > 0
        assert second.add_port(f"127.0.0.1:{port}") == 0
        await first.stop(0)
        completions.close()
