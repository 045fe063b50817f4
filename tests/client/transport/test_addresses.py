"""Addresses, what stands between, and what an error says of the way."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest

from latentserve_client import AsyncClient, CallError, Client, DeadlineExceededError, RequestError, UnavailableError

Invoke = Callable[..., Awaitable[Any]]
Kind = type[Client] | type[AsyncClient]
ALLOWED = "write host:port, with a port of 1 to 65535, or a URI of gRPC such as dns:///host:port"
KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def ask(kind: Kind, address: str, **options: Any) -> Any:
    if kind is Client:
        with Client(address) as client:
            return await asyncio.to_thread(client.models, **options)
    async with AsyncClient(address) as awaited:
        return await awaited.models(**options)


async def refusal_of(kind: Kind, address: str) -> str:
    """Why a client takes no such address; empty where it does."""
    try:
        client = kind(address)
    except RequestError as error:
        return str(error)
    await asyncio.to_thread(client.close) if isinstance(client, Client) else await client.close()
    return ""


@KINDS
@pytest.mark.parametrize(
    "address",
    [
        *("", "localhost", ":50051", "localhost:", "localhost:0", "localhost:65536", "localhost:http", "a b:50051"),
        *("http://localhost:50051", "localhost:50051/", "::1:50051", "[::1]", "localhost:+1", "localhost:٣"),
    ],
)
async def test_an_address_is_host_and_port(kind: Kind, address: str) -> None:
    assert await refusal_of(kind, address) == f"server {address!r}: {ALLOWED}"


@KINDS
@pytest.mark.parametrize(
    "address", ["localhost:1", "10.0.0.7:65535", "[::1]:50051", "dns:///replicas.local:50051", "unix:/run/server"]
)
async def test_an_address_may_be_a_uri(kind: Kind, address: str) -> None:
    assert await refusal_of(kind, address) == ""


@KINDS
async def test_nothing_on_this_machine_is_called_through_a_proxy(
    target: str, silent: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{silent}")
    assert len(await ask(kind, target, timeout=30)) == 3
    assert len(await ask(kind, target.replace("127.0.0.1", "localhost"), timeout=30)) == 3


@KINDS
async def test_an_error_names_the_proxy(unused_tcp_port: int, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{unused_tcp_port}")
    with pytest.raises(UnavailableError) as raised:
        await ask(kind, "server.invalid:50051")
    _, _, said = raised.value.message.rpartition("; ")  # behind gRPC's own words
    assert said == "http_proxy is set, and gRPC goes through that proxy unless no_proxy names the host"
    assert "secret" not in str(raised.value)


@KINDS
async def test_where_grpc_hides_what_an_address_of_localhost_says_the_error_names_it(kind: Kind) -> None:
    """gRPC tells of 127.0.0.1, or that ::1 refused, as it happens: so several are asked."""

    async def told_of_one_who_hangs_up() -> tuple[int, str]:
        listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            with pytest.raises(UnavailableError) as raised:
                await ask(kind, f"localhost:{port}", timeout=30)
        return port, raised.value.message

    for port, message in await asyncio.gather(*(told_of_one_who_hangs_up() for _ in range(8))):
        cause = message.startswith(f"localhost:{port} closed the connection at once; does it speak TLS?: ")
        hint = f"; localhost has another address, of which gRPC says nothing: call 127.0.0.1:{port} to hear of it"
        assert cause != message.endswith(hint), message


async def test_a_deadline_says_whether_the_server_was_reached(invoke: Invoke, faults: list[Any], silent: str) -> None:
    faults.append("stall")
    with pytest.raises(DeadlineExceededError) as raised:
        await invoke("models", timeout=0.2)
    assert raised.value.message == "no answer within the timeout of 0.2 s: the server was reached and is not done"
    faults.append("stall")
    with pytest.raises(DeadlineExceededError):
        await invoke("sample", "linear", 1, timeout=0.2)


@KINDS
async def test_a_deadline_says_that_there_was_no_connection(kind: Kind, silent: str) -> None:
    with pytest.raises(DeadlineExceededError) as raised:
        await ask(kind, silent, timeout=0.2)
    assert raised.value.message == f"no answer within the timeout of 0.2 s: there is no connection to {silent}"


async def test_an_error_knows_whose_it_is(invoke: Invoke, faults: list[Any]) -> None:
    faults.extend([grpc.StatusCode.UNAVAILABLE] * 4)
    with pytest.raises(UnavailableError) as raised:
        await invoke("models")
    assert raised.value.answered
    faults.append("stall")
    with pytest.raises(CallError) as late:
        await invoke("models", timeout=0.2)
    assert not late.value.answered
    assert not pickle.loads(pickle.dumps(late.value)).answered  # noqa: S301  (our own)
