"""Which versions the policy and the aliases have served, and what is said of the others."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import grpc
import pytest
from admin_server import READY, UNAVAILABLE, admin_server, refusal
from held_graph import BACKSTOP_SECONDS
from model_shelf import BROKEN, Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Versions 1 to 4 with the models of the seeds 1 to 4."""
    return Shelf.of(tmp_path, 1, 2, 3, 4)


def name_aliases(shelf: Shelf, text: str) -> None:
    (shelf.model / "aliases.json").write_text(text)


@pytest.mark.parametrize(
    ("policy", "served"),
    [("latest:1", {4}), ("latest:3", {2, 3, 4}), ("latest:9", {1, 2, 3, 4}), ("all", {1, 2, 3, 4})],
)
async def test_a_policy_serves_the_highest_versions(shelf: Shelf, policy: str, served: set[int]) -> None:
    async with admin_server(shelf, version_policy=policy) as server:
        expected = dict.fromkeys(served, (READY, ""))
        unwanted = UNAVAILABLE, f"the version policy {policy} does not want it"
        assert await server.states() == {version: expected.get(version, unwanted) for version in (1, 2, 3, 4)}
        assert await server.answering() == (4, 4)
        for version in (1, 2, 3):
            if version in served:
                assert await server.answering(version=version) == (version, version)
            else:
                await refusal(server.answering(version=version), grpc.StatusCode.UNAVAILABLE)


async def test_a_broken_version_does_not_count_among_the_latest(shelf: Shelf) -> None:
    shelf.publish(4, 4, broken=True)
    async with admin_server(shelf, version_policy="latest:2") as server:
        states = await server.states()
        assert {version for version, (state, _) in states.items() if state == READY} == {2, 3}
        assert states[4] == (UNAVAILABLE, BROKEN)
        assert await server.answering() == (3, 3)


async def test_aliases_keep_their_versions_beside_the_latest(shelf: Shelf) -> None:
    name_aliases(shelf, json.dumps({"stable": 1, "canary": 4, "beta": 4}))
    async with admin_server(shelf) as server:
        listed = await server.listed()
        assert {version: list(status.aliases) for version, status in listed.items()} == {
            1: ["stable"],
            2: [],
            3: [],
            4: ["beta", "canary"],
        }
        assert {version for version, status in listed.items() if status.state == READY} == {1, 4}
        assert await server.answering(alias="stable") == (1, 1)
        assert await server.answering(alias="canary") == (4, 4)
        assert await server.answering() == (4, 4)
        await refusal(server.answering(alias="old"), grpc.StatusCode.NOT_FOUND)


async def test_explicit_serves_what_aliases_name(shelf: Shelf) -> None:
    name_aliases(shelf, '{"stable": 2}')
    async with admin_server(shelf, version_policy="explicit") as server:
        assert {version for version, (state, _) in (await server.states()).items() if state == READY} == {2}
        assert await server.answering() == (2, 2)


async def test_explicit_starts_with_nothing_and_serves_what_is_loaded(shelf: Shelf) -> None:
    async with admin_server(shelf, version_policy="explicit") as server:
        await refusal(server.answering(), grpc.StatusCode.UNAVAILABLE)
        await server.load(3)
        assert await server.answering() == (3, 3)


async def test_an_alias_moves_only_to_a_version_that_is_ready(shelf: Shelf) -> None:
    shelf.publish(3, 3, broken=True)
    name_aliases(shelf, '{"stable": 2, "next": 3, "ghost": 9}')
    async with admin_server(shelf) as server:
        await refusal(server.answering(alias="next"), grpc.StatusCode.UNAVAILABLE)
        await refusal(server.answering(alias="ghost"), grpc.StatusCode.UNAVAILABLE)
        name_aliases(shelf, '{"stable": 3}')
        await server.rescan()
        assert await server.answering(alias="stable") == (2, 2)  # it stays where it answers
        shelf.publish(3, 13)
        await server.rescan()
        assert await server.answering(alias="stable") == (3, 13)
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while (await server.states())[2][0] != UNAVAILABLE:  # once its last call has ended
                pass
        await refusal(server.answering(alias="next"), grpc.StatusCode.NOT_FOUND)


NOT_JSON, NO_OBJECT = "not JSON: ", "not an object of versions by alias"
NO_ALIAS, NO_VERSION = (
    "is not an alias: letters, digits, '_', '.' and '-'",
    "does not name a version, a positive integer",
)
DAMAGED = [
    ("", NOT_JSON),
    ("[]", NO_OBJECT),
    ("{", NOT_JSON),
    ('{"a": "1"}', f"'a' {NO_VERSION}"),
    ('{"a": 0}', f"'a' {NO_VERSION}"),
    ('{"a": 1.0}', f"'a' {NO_VERSION}"),
    ('{"a": true}', f"'a' {NO_VERSION}"),
    ('{"": 1}', f"'' {NO_ALIAS}"),
    ('{"a b": 1}', f"'a b' {NO_ALIAS}"),
    ('{"-a": 1}', f"'-a' {NO_ALIAS}"),
    ("[" * 100_000, NOT_JSON),
    ('{"a": 1' + "0" * 30 + "}", f"'a' {NO_VERSION}"),
    (" " * (1 << 20) + "{}", "longer than 1048576 bytes"),
]


@pytest.mark.parametrize(("text", "complaint"), DAMAGED, ids=lambda text: text[:12])
async def test_a_damaged_alias_file_is_a_problem_and_changes_nothing(shelf: Shelf, text: str, complaint: str) -> None:
    name_aliases(shelf, '{"stable": 2}')
    async with admin_server(shelf) as server:
        name_aliases(shelf, text)
        (problem,) = await server.rescan()
        assert re.sub("(?<=not JSON: ).+", "", problem) == f"vae: aliases.json: {complaint}"  # Python's own words
        assert "\n" not in problem
        assert await server.answering(alias="stable") == (2, 2)
        assert problem == await refusal(server.set_alias("stable", 4))
        name_aliases(shelf, "{}")
        assert await server.rescan() == []
        await refusal(server.answering(alias="stable"), grpc.StatusCode.NOT_FOUND)


async def test_a_damaged_alias_file_does_not_keep_the_server_from_starting(shelf: Shelf) -> None:
    name_aliases(shelf, "{")
    async with admin_server(shelf) as server:
        assert await server.answering() == (4, 4)
