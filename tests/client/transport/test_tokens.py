"""The token that tells a server who calls: with every call, as it is now, and to nobody who may not read it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from client.scripted_server import Busy, Script
from hypothesis import given
from hypothesis import strategies as st

from latentserve_client import (
    AdminClient,
    AsyncAdminClient,
    AsyncClient,
    Client,
    PermissionDeniedError,
    RequestError,
    TokenFile,
    UnauthenticatedError,
)
from latentserve_client._calls.bearer import Bearer

TOKEN = "ls_0a1b2c3d_dG9rZW4-b2Ytc29tZS10ZXN0cw"  # noqa: S105  # of no server
CLIENTS = (Client, AsyncClient, AdminClient, AsyncAdminClient)
ELSEWHERE = "models.example:50051"


async def sample_and_stream(kind: type, target: str, **options: Any) -> None:
    """One call, and a stream that is broken off once, so that it makes two."""
    if kind is Client:
        with Client(target, **options) as client:
            client.sample("linear", 1)
            list(client.stream_samples("linear", 4, chunk_rows=2))
        return
    async with AsyncClient(target, **options) as aio:
        await aio.sample("linear", 1)
        assert [chunk async for chunk in aio.stream_samples("linear", 4, chunk_rows=2)]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_every_call_carries_the_token(
    kind: type, target: str, script: Script, busy: Callable[[str], Busy]
) -> None:
    script.faults += [None, busy("1")]
    await sample_and_stream(kind, target, token=TOKEN)
    assert script.authorizations == [f"Bearer {TOKEN}"] * 3


async def test_without_a_token_nothing_is_said(target: str, script: Script) -> None:
    await sample_and_stream(Client, target)
    assert script.authorizations == ["", ""]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_function_is_asked_before_every_call(
    kind: type, target: str, script: Script, busy: Callable[[str], Busy]
) -> None:
    script.faults += [None, busy("1")]
    tokens = iter(["first", "second", "third"])
    await sample_and_stream(kind, target, token=lambda: next(tokens))
    assert script.authorizations == ["Bearer first", "Bearer second", "Bearer third"]


def test_a_file_is_read_for_every_call(target: str, script: Script, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with Client(target, token=TokenFile(file)) as client:
        client.sample("linear", 1)
        file.write_text("  another \n")
        client.sample("linear", 1)
    assert script.authorizations == [f"Bearer {TOKEN}", "Bearer another"]


@pytest.mark.parametrize("text", ["", "\n", "two words", "täg", TOKEN + "\nx"])
def test_a_file_of_something_else_is_refused_and_not_repeated(target: str, tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with Client(target, token=TokenFile(file)) as client, pytest.raises(RequestError) as refused:
        client.sample("linear", 1)
    assert str(file) in str(refused.value)
    assert TOKEN not in str(refused.value)


@given(text=st.text() | st.from_regex(r"[A-Za-z0-9._~+/-]+=*", fullmatch=True))
def test_a_token_is_sent_as_it_is_or_refused(text: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", text):
        assert Bearer(text).metadata == (("authorization", f"Bearer {text}"),)
    else:
        with pytest.raises(RequestError):
            Bearer(text)


@pytest.mark.parametrize("kind", CLIENTS)
async def test_it_is_not_sent_to_another_machine_in_plain_text(kind: Callable[..., Any]) -> None:
    with pytest.raises(RequestError) as refused:
        kind(ELSEWHERE, token=TOKEN)
    assert "plain text" in str(refused.value)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    ("target", "options"),
    [
        (ELSEWHERE, {"token_in_plain_text": True}),
        (ELSEWHERE, {"credentials": grpc.ssl_channel_credentials()}),
        ("localhost:1", {}),
        ("[::1]:1", {}),
        ("unix:/nowhere", {}),
        ("dns:///127.0.0.1:1", {}),
    ],
)
def test_it_is_sent_where_it_is_safe_or_allowed(target: str, options: dict[str, Any]) -> None:
    Client(target, token=TOKEN, **options).close()


def test_a_channel_of_the_callers_own_is_the_callers_to_judge(target: str, script: Script) -> None:
    with grpc.insecure_channel(target) as channel, Client(ELSEWHERE, channel=channel, token=TOKEN) as client:
        client.sample("linear", 1)
    assert script.authorizations == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, UnauthenticatedError),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDeniedError),
    ],
)
def test_a_refusal_is_not_tried_again(
    target: str, script: Script, status: grpc.StatusCode, kind: type[Exception]
) -> None:
    script.faults.append(status)
    with Client(target, token=TOKEN) as client, pytest.raises(kind) as refused:
        client.sample("linear", 1)
    assert len(script.attempts) == 1
    assert TOKEN not in str(refused.value)
