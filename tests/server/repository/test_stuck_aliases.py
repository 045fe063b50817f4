"""An alias that cannot move to what its file names is told of until it does."""

from __future__ import annotations

import json
from pathlib import Path

from admin_server import AdminServer
from model_shelf import BROKEN, Shelf
from server_process import server_process

GHOST = "alias 'stable' of vae stays at version 1: it is to name version 7: there is no such version"


def name_aliases(shelf: Shelf, **aliases: int) -> None:
    (shelf.model / "aliases.json").write_text(json.dumps(aliases))


async def test_an_alias_of_a_version_that_is_not_there_is_a_problem_until_it_is(
    shelf: Shelf, measured: AdminServer
) -> None:
    await measured.set_alias("stable", 1)
    name_aliases(shelf, stable=7)
    for _ in range(2):
        assert await measured.rescan() == [GHOST]
    assert await measured.answering(alias="stable") == (1, 1)
    assert await measured.served.metric("alias_stuck", model="vae", alias="stable") == 1
    shelf.publish(7, 7)
    assert await measured.rescan() == []
    assert await measured.answering(alias="stable") == (7, 7)
    assert await measured.served.metric("alias_stuck") == 0


async def test_an_alias_that_never_answered_names_nothing(shelf: Shelf, measured: AdminServer) -> None:
    shelf.publish(3, 3, broken=True)
    name_aliases(shelf, next=3, stable=1)
    assert await measured.rescan() == [
        f"alias 'next' of vae names no version yet: it is to name version 3: model 'vae' version 3 is unavailable: "
        f"{BROKEN}"
    ]
    assert await measured.served.metric("alias_stuck", alias="next") == 1
    assert await measured.served.metric("alias_stuck", alias="stable") == 0
    await measured.delete_alias("next")
    assert await measured.rescan() == []
    assert await measured.served.metric("alias_stuck") == 0


async def test_aliases_that_go_with_their_model_are_no_problem_any_more(shelf: Shelf, measured: AdminServer) -> None:
    name_aliases(shelf, stable=7)
    assert len(await measured.rescan()) == 1
    shelf.remove(1)
    assert not [problem for problem in await measured.rescan() if problem.startswith("alias")]
    assert await measured.served.metric("alias_stuck") == 0


async def test_a_stuck_alias_is_logged_once(shelf: Shelf, tmp_path: Path) -> None:
    name_aliases(shelf, stable=1)
    async with server_process(shelf.root, "--poll-interval=0.1") as process:
        await process.log("serving on port")
        name_aliases(shelf, stable=7)
        line = await process.log(GHOST)
        assert (line["level"], line["model"], line["alias"]) == ("WARNING", "vae", "stable")
        (shelf.model / "nonsense").mkdir()
        await process.log("ignored: vae/nonsense")  # a later look
        shelf.publish(7, 7)
        await process.log("alias stable of vae points to version 7")
        assert len([line for line in process.lines if GHOST in line]) == 1
