"""A file of tokens that changes while calls come: what counts, and what is said where it makes no sense."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import grpc
import pytest
from access_tokens import FORBIDDEN, NEEDED, Metadata, TokenShelf
from held_graph import BACKSTOP_SECONDS
from running_server import RunningServer, channel_to, running_server
from server_process import server_process

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2, models_pb2_grpc

REQUEST = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1)
OK = (grpc.StatusCode.OK, "")
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, NEEDED)


async def outcome(served: RunningServer, caller: Metadata) -> tuple[grpc.StatusCode, str]:
    """How a call of one row ends."""
    call = served.generation.Sample(REQUEST, metadata=caller)
    return await call.code(), await call.details() or ""


async def until(served: RunningServer, caller: Metadata, wanted: tuple[grpc.StatusCode, str]) -> None:
    """Call until the call ends so."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while await outcome(served, caller) != wanted:
            pass


async def stale(served: RunningServer, files: int) -> None:
    """Return once so many files count as they were."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while await served.metric("access_files_stale") != files:
            pass


async def test_a_new_token_counts_and_a_removed_one_does_not_while_others_call_on(
    guarded: RunningServer, tokens: TokenShelf
) -> None:
    stays = tokens.caller("stays")
    await until(guarded, stays, OK)
    seen, stopped = set[tuple[grpc.StatusCode, str]](), asyncio.Event()

    async def call_on() -> None:
        while not stopped.is_set():
            seen.add(await outcome(guarded, stays))

    load = [asyncio.create_task(call_on()) for _ in range(8)]
    before = tokens.text
    for name in ("one", "two"):
        comes = tokens.caller(name)
        await until(guarded, comes, OK)
        tokens.write(before)
        await until(guarded, comes, REFUSED)
    stopped.set()
    await asyncio.gather(*load)
    assert seen == {OK}


async def test_a_token_that_loses_its_scope_is_forbidden(guarded: RunningServer, tokens: TokenShelf) -> None:
    caller = tokens.caller("changes")
    await until(guarded, caller, OK)
    tokens.write(tokens.text.replace("generate", "read"))
    await until(guarded, caller, (grpc.StatusCode.PERMISSION_DENIED, FORBIDDEN))


@pytest.mark.parametrize("damage", ["- {name: half", "", "a: 1", "- {name: a, id: b, sha256: c, scopes: [read]}"])
async def test_a_file_that_makes_no_sense_changes_nothing_and_is_complained_of(
    guarded: RunningServer, tokens: TokenShelf, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    known, good = tokens.caller("known"), tokens.text
    await until(guarded, known, OK)
    tokens.write(damage)
    await stale(guarded, 1)
    assert await outcome(guarded, known) == OK
    complaints = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(complaints) == 1
    assert str(tokens.path) in complaints[0]
    tokens.write(good)
    later = tokens.caller("later")
    await until(guarded, later, OK)
    await stale(guarded, 0)
    assert await outcome(guarded, known) == OK


async def test_a_file_that_goes_away_changes_nothing(guarded: RunningServer, tokens: TokenShelf) -> None:
    known = tokens.caller("known")
    await until(guarded, known, OK)
    tokens.path.unlink()
    await stale(guarded, 1)
    assert await outcome(guarded, known) == OK
    tokens.write("[]\n")
    await until(guarded, known, REFUSED)


async def test_a_secret_that_is_mounted_is_followed_as_its_links_move(repository: Path, tmp_path: Path) -> None:
    """As a kubelet does it: the name is a link to ..data/name, and ..data a link that is replaced by a rename."""
    shelves = [TokenShelf(mounted(tmp_path, f"..{number}") / "tokens.yaml") for number in (1, 2)]
    first, second = (shelf.caller(name) for shelf, name in zip(shelves, ("first", "second"), strict=True))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "tokens.yaml").symlink_to("..data/tokens.yaml")
    async with running_server(repository, tokens=str(tmp_path / "tokens.yaml")) as served:
        assert (await outcome(served, first), await outcome(served, second)) == (OK, REFUSED)
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await until(served, second, OK)
        assert await outcome(served, first) == REFUSED


def mounted(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file or directory"),
        ("", "holds nothing; write [] where there is to be no token"),
        ("- {name: a}", ":1: id is missing"),
    ],
)
async def test_a_server_does_not_start_over_a_file_that_makes_no_sense(
    repository: Path, tmp_path: Path, text: str | None, said: str
) -> None:
    file = tmp_path / "tokens.yaml"
    if text is not None:
        file.write_text(text)
    for flags in ((), ("--workers=2",)):
        async with server_process(repository, f"--tokens={file}", *flags) as process:
            assert await process.exit_status() not in (0, -11)
        (line,) = [line for line in process.lines if str(file) in line]
        assert said in line
        assert "Traceback" not in "".join(process.lines)


async def test_workers_and_their_admin_port_follow_the_file(repository: Path, tokens: TokenShelf) -> None:
    tokens.add("somebody")
    flags = ("--workers=2", "--admin-listen=127.0.0.1:0", f"--tokens={tokens.path}")
    async with server_process(repository, *flags) as process:
        ready = await process.log("serving on port")
        caller = tokens.caller("comes", "read", "admin")
        async with channel_to(ready["admin_port"]) as channel:
            admin = models_pb2_grpc.ModelAdminServiceStub(channel)
            await until_answered(partial(admin.Rescan, models_pb2.RescanRequest(), metadata=caller))
        for _ in range(8):  # connections, which the workers share
            async with channel_to(ready["port"]) as channel:
                models = models_pb2_grpc.ModelServiceStub(channel)
                await until_answered(partial(models.ListModels, models_pb2.ListModelsRequest(), metadata=caller))
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0


async def until_answered(call: Callable[[], Awaitable[object]]) -> None:
    """Call until there is an answer; until then the token is not known."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while (code := await code_of(call)) is not grpc.StatusCode.OK:
            assert code is grpc.StatusCode.UNAUTHENTICATED


async def code_of(call: Callable[[], Awaitable[object]]) -> grpc.StatusCode:
    """How a call ends."""
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
