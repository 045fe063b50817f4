"""Administration through both clients and the command line, on a real server's admin listener."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from admin_server import AdminServer
from client import fresh_client
from model_shelf import Shelf

from latentserve_client import (
    AdminClient,
    AsyncAdminClient,
    FailedPreconditionError,
    ModelState,
    NotFoundError,
    RequestError,
    UnimplementedError,
)

Invoke = Callable[..., Awaitable[Any]]
Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Versions 1 and 2, of which the policy wants 2."""
    return Shelf.of(tmp_path, 1, 2)


@pytest.fixture
def target(server: AdminServer) -> str:
    """The address of the server's admin listener."""
    return f"127.0.0.1:{server.served.server.admin_port}"


@pytest.fixture(params=[AdminClient, AsyncAdminClient], ids=["sync", "asyncio"])
def invoke(request: pytest.FixtureRequest, target: str) -> Invoke:
    """Calls a method of a fresh admin client of either kind."""
    return partial(fresh_client.call, request.param, target)


@pytest.fixture
def administer(run_aside: Run) -> Run:
    """Runs `latentserve admin` against the server: exit code, stdout and stderr."""
    return partial(run_aside, "admin")


async def test_a_version_is_loaded_and_unloaded(invoke: Invoke, server: AdminServer) -> None:
    status = await invoke("load", "vae:1")
    assert (status.name, status.version, status.state, status.is_default) == ("vae", 1, ModelState.READY, False)
    assert await server.answering(version=1) == (1, 1)
    assert await invoke("unload", "vae:2") is None
    assert await server.answering() == (1, 1)


async def test_an_alias_is_made_moved_and_deleted(invoke: Invoke, server: AdminServer) -> None:
    await invoke("load", "vae:1")
    for version in (1, 2):
        assert await invoke("set_alias", f"vae:{version}", "stable") is True
        assert await server.answering(alias="stable") == (version, version)
    assert await invoke("delete_alias", "vae@stable") is True
    assert (await server.listed())[2].aliases == []


async def test_a_rescan_follows_the_repository_and_names_its_problems(
    invoke: Invoke, server: AdminServer, shelf: Shelf
) -> None:
    shelf.publish(3, 3)
    (shelf.model / "aliases.json").write_text("{")
    scanned = await invoke("rescan")
    assert [(status.version, status.state) for status in scanned.models][-1] == (3, ModelState.READY)
    assert len(scanned.problems) == 1
    assert "aliases.json" in scanned.problems[0]
    assert await server.answering() == (3, 3)


async def test_what_the_server_refuses_is_said(invoke: Invoke, shelf: Shelf) -> None:
    shelf.publish(4, 4, broken=True)
    with pytest.raises(FailedPreconditionError):
        await invoke("load", "vae:4")
    with pytest.raises(NotFoundError):
        await invoke("load", "other:1")
    with pytest.raises(FailedPreconditionError):
        await invoke("set_alias", "vae:1", "stable")  # is not READY
    await invoke("set_alias", "vae:2", "stable")
    with pytest.raises(FailedPreconditionError):
        await invoke("unload", "vae:2")
    with pytest.raises(NotFoundError):
        await invoke("delete_alias", "vae@canary")


NAMES = (
    "letters, digits, '_', '.' and '-', beginning with neither '.' nor '-' "
    "(a model is written name, name:3 or name@alias)"
)
NO_VERSION = "names no version; write it name:3"


@pytest.mark.parametrize(
    ("method", "args", "message"),
    [
        ("load", ("vae",), f"model 'vae' {NO_VERSION}"),
        ("unload", ("vae@stable",), f"model 'vae@stable' {NO_VERSION}"),
        ("set_alias", ("vae", "stable"), f"model 'vae' {NO_VERSION}"),
        ("set_alias", ("vae:2", "-"), f"model alias '-' is not {NAMES}"),
        ("delete_alias", ("vae:2",), "model 'vae:2' names no alias; write it name@alias"),
    ],
)
async def test_what_no_server_would_accept_is_not_sent(
    invoke: Invoke, method: str, args: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        await invoke(method, *args)
    assert str(caught.value) == message


async def test_the_two_admin_clients_have_the_same_calls() -> None:
    def calls(client: type) -> set[str]:
        return {name for name in dir(client) if name[0] != "_"}

    assert calls(AdminClient) == calls(AsyncAdminClient) > {"load", "unload", "set_alias", "delete_alias", "rescan"}


async def test_the_command_changes_what_is_served(administer: Run, server: AdminServer, shelf: Shelf) -> None:
    code, out, err = await administer("load", "vae:1")
    assert (code, err) == (0, "")
    assert out.splitlines()[1].split()[:4] == ["vae", "1", "ready", "-"]
    assert await administer("set-alias", "vae:1", "stable") == (0, "vae@stable is version 1\n", "")
    assert await server.answering(alias="stable") == (1, 1)
    assert await administer("delete-alias", "vae@stable") == (0, "vae@stable is deleted\n", "")
    assert await administer("unload", "vae:1") == (0, "vae:1 is unloaded\n", "")
    shelf.publish(3, 3)
    code, out, err = await administer("rescan")
    assert (code, err) == (0, "")
    assert out.splitlines()[3].split()[:4] == ["vae", "3", "ready", "yes"]


async def test_a_rescan_that_met_problems_ends_with_3(administer: Run, shelf: Shelf) -> None:
    (shelf.model / "aliases.json").write_text("{")
    (shelf.model / "three" / "x").mkdir(parents=True)
    code, out, err = await administer("rescan")
    assert (code, err) == (3, "")
    header, *listed, ignored, damaged = out.splitlines()
    assert (header.split()[0], len(listed)) == ("NAME", 2)
    assert ignored.startswith("ignored: vae/three: ")
    assert damaged.startswith("vae: aliases.json: ")
    (shelf.model / "three").rename(shelf.model / ".three")
    (shelf.model / "aliases.json").write_text('{"stable": 7}')
    code, out, err = await administer("rescan")
    assert (code, err) == (3, "")
    assert out.splitlines()[-1].startswith("alias 'stable' of vae ")


async def test_the_command_says_when_an_alias_is_not_stored(administer: Run, shelf: Shelf) -> None:
    (shelf.model / "aliases.json").mkdir()
    code, out, err = await administer("set-alias", "vae:2", "stable")
    assert (code, err) == (0, "")
    assert out == "vae@stable is version 2; the repository was not changed, so that this ends with the server\n"


async def test_the_command_says_in_a_line_what_was_refused(administer: Run) -> None:
    code, out, err = await administer("load", "vae:9")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("latentserve: model 'vae' ")


async def test_the_command_says_that_it_asked_the_wrong_listener(run_aside: Run) -> None:
    code, _, err = await run_aside("models")
    assert (code, err.count("\n")) == (1, 1)
    assert (
        "does not answer this call; --server names the admin listener for admin, and the main one for all else" in err
    )


async def test_the_public_listener_does_not_answer_it(server: AdminServer) -> None:
    async with AsyncAdminClient(f"127.0.0.1:{server.served.server.port}") as client:
        with pytest.raises(UnimplementedError):
            await client.load("vae:1")
