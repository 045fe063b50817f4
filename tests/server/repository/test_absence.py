"""What is served stays while its storage is away: a lost mount, a folder that a tool empties for a moment."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

import grpc
import pytest
from admin_server import READY, UNAVAILABLE, AdminServer, admin_server, refusal
from held_graph import BACKSTOP_SECONDS
from model_shelf import Shelf
from server_process import server_process
from tiny_bundle import TinyModel

from latentserve_server.errors import ModelNotFound
from latentserve_server.repository.model import Model
from latentserve_server.repository.policy import VersionPolicy
from latentserve_server.repository.store import read_catalog, write_aliases

MISSING = "its directory is not there; unloaded where that is still so after {} s"


def empty(shelf: Shelf) -> Path:
    """Take everything out of the repository, as a mount that is lost does; returns where it is."""
    away = shelf.root.with_name("away")
    shelf.root.rename(away)
    shelf.root.mkdir()
    return away


def fill(shelf: Shelf, away: Path) -> None:
    """Put back what `empty` took out."""
    shelf.root.rmdir()
    away.rename(shelf.root)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Version 1, with the model of seed 1, in a folder that has a place for another one beside it."""
    return Shelf.of(tmp_path / "models", 1)


async def test_a_repository_that_is_empty_changes_nothing(shelf: Shelf, measured: AdminServer) -> None:
    away = empty(shelf)
    (shelf.root / "NOT_MOUNTED").touch()
    (shelf.root / "lost+found").mkdir()
    said = f"{shelf.root}: nothing is there, though it had models; to serve none, unload them"
    assert await refusal(measured.rescan()) == said
    assert await refusal(measured.load(1)) == said
    assert await measured.states() == {1: (READY, "")}
    assert await measured.answering() == (1, 1)
    assert await measured.served.metric("repository_unreadable") == 1
    shutil.rmtree(shelf.root)
    shelf.root.mkdir()
    fill(shelf, away)
    assert await measured.rescan() == []
    assert await measured.served.metric("repository_unreadable") == 0
    assert await measured.served.metric("model_loads_total") == 1


async def test_a_model_is_unloaded_from_an_empty_repository_by_order(shelf: Shelf, server: AdminServer) -> None:
    away = empty(shelf)
    await server.unload(1)
    assert await server.states() == {1: (UNAVAILABLE, "unloaded on request")}
    fill(shelf, away)
    assert await server.rescan() == []
    assert await server.states() == {1: (UNAVAILABLE, "unloaded on request")}


@pytest.mark.parametrize("as_url", [False, True], ids=["directory", "url"])
async def test_a_mount_that_is_lost_and_found_is_an_error_and_no_change(shelf: Shelf, as_url: bool) -> None:
    place = shelf.root.as_uri() if as_url else str(shelf.root)
    async with server_process(place, "--poll-interval=0.1", "--removal-delay=0") as process:
        await process.log("serving on port")
        away = empty(shelf)
        line = await process.log(f"what is served stays: {place}: nothing is there")
        assert line["level"] == "ERROR"
        fill(shelf, away)
        await process.log(f"{place} can be read again")
        shelf.publish(2, 2)
        await process.log("vae version 2 is ready")
        assert len([line for line in process.lines if "what is served stays" in line]) == 1
        assert not [line for line in process.lines if "unloading" in line and "version 1 is ready" in line]


async def asked_to_look(server: AdminServer, state: tuple[int, str]) -> None:
    """Have the server look as on SIGHUP, and wait until version 1 has the state and the reason."""
    server.served.server.request_rescan()
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while (await server.states()).get(1) != state:
            pass


async def test_a_folder_that_is_empty_for_a_moment_changes_nothing(shelf: Shelf, measured: AdminServer) -> None:
    assert await measured.set_alias("stable", 1)
    away = shelf.root.with_name("away")
    shelf.model.rename(away)
    shelf.model.mkdir()
    await asked_to_look(measured, (READY, MISSING.format(60)))
    assert await measured.served.metric("model_missing", model="vae", version="1") == 1
    assert await measured.answering(alias="stable") == (1, 1)
    assert (await refusal(measured.load(1), grpc.StatusCode.NOT_FOUND)).endswith("is not in its place any more")
    shelf.model.rmdir()
    away.rename(shelf.model)
    await asked_to_look(measured, (READY, ""))
    assert await measured.served.metric("model_missing") == 0
    assert await measured.served.metric("model_loads_total") == 1
    assert await measured.answering(alias="stable") == (1, 1)


async def test_a_rescan_that_is_ordered_unloads_at_once(shelf: Shelf, measured: AdminServer) -> None:
    shelf.publish(2, 2)
    await measured.rescan()
    shelf.remove(2)
    await asked_to_look_until_missing(measured)
    assert await measured.answering() == (2, 2)
    await measured.rescan()
    assert await measured.answering() == (1, 1)
    assert await measured.served.metric("model_missing") == 0


async def asked_to_look_until_missing(server: AdminServer) -> None:
    server.served.server.request_rescan()
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while (await server.states())[2] != (READY, MISSING.format(60)):
            pass


@pytest.mark.parametrize("flags", [(), ("--poll-interval=0.1",)], ids=["asked", "polled"])
async def test_what_stays_away_is_unloaded_and_said(shelf: Shelf, flags: tuple[str, ...]) -> None:
    TinyModel().write(shelf.root / "other" / "1")
    async with server_process(shelf.root, "--removal-delay=0.5", *flags) as process:
        await process.log("serving on port")
        shelf.remove(1)
        if not flags:
            process.signal(signal.SIGHUP)
        line = await process.log("vae version 1 is not there; unloaded where that is still so after 0.5 s")
        assert (line["level"], line["model"], line["version"]) == ("WARNING", "vae", 1)
        await process.log("unloading vae version 1: its directory is gone")


@pytest.mark.slow
async def test_a_look_for_what_is_missing_meets_nothing_new(shelf: Shelf) -> None:
    TinyModel().write(shelf.root / "other" / "1")
    async with server_process(shelf.root) as process:
        await process.log("serving on port")
        away = shelf.root.with_name("away")
        shelf.model.rename(away)
        process.signal(signal.SIGHUP)
        await process.log("vae version 1 is not there")
        shelf.publish(2, 2)
        (away / "1").rename(shelf.model / "1")
        await process.log("vae version 1 is there again")
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0
        assert not [line for line in process.lines if "version 2" in line]


def seen(versions: Model, root: Path, now: float, patience: float = 60) -> None:
    versions.observe(read_catalog(root).models.get("vae"), now=now, patience=patience, retry=False)


def test_what_was_unloaded_or_loaded_by_order_stays_so_over_an_absence(shelf: Shelf) -> None:
    shelf.publish(2, 2)
    versions, away = Model("vae", VersionPolicy.parse("explicit")), shelf.root.with_name("away")
    seen(versions, shelf.root, 0)
    versions.withdraw(1)
    versions.pin(2)
    assert [entry.version for entry in versions.plan().load] == [2]
    shelf.model.rename(away)
    for now in (10, 69):
        seen(versions, shelf.root, now)
        assert versions.plan().load == []  # neither answers, and what is not there cannot be loaded
        with pytest.raises(ModelNotFound):
            versions.pin(2)
    away.rename(shelf.model)
    seen(versions, shelf.root, 70)
    assert [entry.version for entry in versions.plan().load] == [2]
    versions.unpin(2)
    seen(versions, Path(shelf.root / "vae" / "1"), 80)
    seen(versions, Path(shelf.root / "vae" / "1"), 140)
    assert not any(entry.exists for entry in versions)


def test_an_alias_file_that_is_missing_for_a_moment_moves_no_alias(shelf: Shelf) -> None:
    versions = Model("vae", VersionPolicy.parse("all"))
    write_aliases(shelf.model, {"stable": 1})
    seen(versions, shelf.root, 0)
    (shelf.model / "aliases.json").unlink()
    for now, aliases in ((10, {"stable": 1}), (69, {"stable": 1}), (70, {})):
        seen(versions, shelf.root, now)
        assert versions.intended_aliases.versions == aliases
    write_aliases(shelf.model, {"stable": 1})
    seen(versions, shelf.root, 80)
    (shelf.model / "aliases.json").unlink()
    seen(versions, shelf.root, 90, patience=0)
    assert versions.intended_aliases.versions == {}


async def test_an_alias_that_is_set_while_the_file_is_missing_undoes_no_other(shelf: Shelf) -> None:
    async with admin_server(shelf, version_policy="all") as server:
        await server.set_alias("stable", 1)
        (shelf.model / "aliases.json").unlink()
        await server.set_alias("canary", 1)
        assert (await server.listed())[1].aliases == ["canary", "stable"]
