"""Random lives of a repository under calls: every call is answered, by exactly one model, and the rules hold.

Version 1 stays on disk unbroken, so there is always something to answer, and so does what "stable" names where only
aliases make versions served. The rest comes, changes, breaks and goes at random. `Rules` says in a few lines what must
be served then.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from admin_server import READY, SEEDS, AdminServer, admin_server
from hypothesis import given, settings
from hypothesis import strategies as st
from model_shelf import Shelf, reconstruction, seed_of, write

from latentserve.v1 import generation_pb2 as pb

pytestmark = pytest.mark.slow

LATEST = {"all": 9, "latest:1": 1, "latest:2": 2, "explicit": 0}
CLIENTS = 3
"""The callers at any moment."""
GONE, BROKEN = "gone", "broken"
Published = set[tuple[int, int]]


@dataclass
class Rules:
    """What must be served: by version, the seed of the model."""

    latest: int
    disk: dict[int, int | None] = field(default_factory=lambda: {1: 1})
    """The seed of every version; None for a broken one."""
    served: dict[int, int] = field(default_factory=lambda: {1: 1})
    aliases: dict[str, int] = field(default_factory=dict)
    pinned: set[int] = field(default_factory=set)
    withdrawn: set[int] = field(default_factory=set)

    def settle(self) -> None:
        """Serve the latest versions that load, those that aliases name, and the pinned; none that was withdrawn."""
        self.pinned &= self.disk.keys()
        self.withdrawn &= self.disk.keys()
        able = {version for version, seed in self.disk.items() if seed is not None or version in self.served}
        able -= self.withdrawn
        wanted = set(sorted(able, reverse=True)[: self.latest]) | able & {*self.aliases.values(), *self.pinned}
        self.served = {version: self.disk[version] or self.served[version] for version in wanted}

    def served_aliases(self) -> dict[str, int]:
        """The aliases that name a version which is served."""
        return {alias: version for alias, version in self.aliases.items() if version in self.served}

    def answers(self) -> dict[int | str, tuple[int, int]]:
        """By version and by alias, the version that must answer and its seed."""
        by_alias = {alias: (version, self.served[version]) for alias, version in self.served_aliases().items()}
        return {version: (version, seed) for version, seed in self.served.items()} | by_alias

    def load(self, version: int) -> bool:
        """Whether Load succeeds."""
        self.withdrawn.discard(version)
        loads = self.disk.get(version) is not None
        if loads:
            self.pinned.add(version)
        return loads

    def unload(self, version: int) -> bool:
        """Whether Unload succeeds."""
        allowed = version in self.disk and version not in self.aliases.values()
        if allowed:
            self.pinned.discard(version)
            self.withdrawn.add(version)
        return allowed

    def set_alias(self, alias: str, version: int) -> bool:
        """Whether SetAlias succeeds."""
        allowed = version in self.served
        if allowed:
            self.aliases[alias] = version
        return allowed

    def delete_alias(self, alias: str) -> bool:
        """Whether DeleteAlias succeeds."""
        return self.aliases.pop(alias, None) is not None


VERSIONS = st.integers(1, 4)
CONTENTS = st.one_of(st.sampled_from([GONE, BROKEN]), st.sampled_from(SEEDS[1:]))
COMMANDS = st.one_of(
    st.tuples(st.just("change"), st.dictionaries(VERSIONS, CONTENTS, min_size=1, max_size=3)),
    st.tuples(st.just("change"), st.dictionaries(VERSIONS, CONTENTS, min_size=1, max_size=3)),
    st.tuples(st.just("load"), VERSIONS),
    st.tuples(st.just("unload"), st.integers(2, 4)),
    st.tuples(st.just("set_alias"), st.sampled_from(["stable", "canary"]), VERSIONS),
    st.tuples(st.just("delete_alias"), st.just("canary")),
)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int | None, Path], object]:
    """Writes a bundle by copying one that was written before."""
    store = tmp_path_factory.mktemp("bundles")

    def copy(seed: int | None, place: Path) -> object:
        written = store / str(seed)
        if not written.exists():
            write(written, seed or 0, broken=seed is None)
        return shutil.copytree(written, place)

    return copy


@pytest.mark.parametrize("policy", LATEST)
@settings(max_examples=12)
@given(commands=st.lists(COMMANDS, min_size=3, max_size=12))
def test_a_repository_that_changes_under_calls(
    bundles: Callable[[int | None, Path], object], policy: str, commands: list[tuple[Any, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rules, answers = asyncio.run(live(Shelf(Path(folder)), bundles, policy, commands))
    assert answers == rules.answers()


async def live(
    shelf: Shelf, bundles: Callable[[int | None, Path], object], policy: str, commands: list[tuple[Any, ...]]
) -> tuple[Rules, dict[int | str, tuple[int, int]]]:
    """One repository's life; asserts after every command what is listed, and all along what is answered.

    Returns the rules at its end, and by version and by alias which version answers then, and its model's seed.
    """
    rules, published = Rules(LATEST[policy]), {(1, 1)}
    shelf.publish_written(1, partial(bundles, 1))
    selectors: list[dict[str, str]] = [{} for _ in range(CLIENTS)]
    if policy == "explicit":
        rules.aliases["stable"] = 1
        (shelf.model / "aliases.json").write_text('{"stable": 1}')
        selectors[0] = {"alias": "stable"}
    async with admin_server(shelf, version_policy=policy, access_log=False) as server:
        ended = asyncio.Event()
        clients = [asyncio.create_task(client(server, selector, published, ended)) for selector in selectors]
        for command in commands:
            await obey(server, shelf, bundles, rules, published, command)
            await check(server, rules)
        ended.set()
        await asyncio.gather(*clients)
        answers: dict[int | str, tuple[int, int]] = {
            version: await server.answering(version=version) for version in rules.served
        }
        for alias in rules.served_aliases():
            answers[alias] = await server.answering(alias=alias)
    return rules, answers


async def client(server: AdminServer, selector: dict[str, str], published: Published, ended: asyncio.Event) -> None:
    """Calls until the end; no call may fail, and each must be answered by one model that was published as that."""
    request = reconstruction(pb.ModelRef(name="vae", **selector))  # type: ignore[arg-type]
    while not ended.is_set():
        reply = await server.served.generation.Reconstruct(request)
        assert (reply.served.version, seed_of(reply, SEEDS)) in published


async def obey(
    server: AdminServer,
    shelf: Shelf,
    bundles: Callable[[int | None, Path], object],
    rules: Rules,
    published: Published,
    command: tuple[Any, ...],
) -> None:
    """Give the server a command, and see that it answers as the rules do."""
    verb, *arguments = command
    if verb == "change":
        for version, content in arguments[0].items():
            change(shelf, bundles, rules, published, version, content)
        problems = await server.rescan()
        rules.settle()
        assert len(problems) == len(rules.aliases.keys() - rules.served_aliases())
    else:
        allowed = getattr(rules, verb)(*arguments)
        assert allowed == await succeeds(getattr(server, verb)(*arguments))
        rules.settle()


def change(
    shelf: Shelf,
    bundles: Callable[[int | None, Path], object],
    rules: Rules,
    published: Published,
    version: int,
    content: int | str,
) -> None:
    """Change what lies on disk, unless nothing could answer then."""
    if content in (GONE, BROKEN) and (version == 1 or (content == GONE and rules.aliases.get("stable") == version)):
        return
    if content == GONE:
        shelf.remove(version)
        rules.disk.pop(version, None)
        return
    seed = None if isinstance(content, str) else content
    shelf.publish_written(version, partial(bundles, seed))
    rules.disk[version] = seed
    if seed is not None:
        published.add((version, seed))


async def succeeds(call: Any) -> bool:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION):
            return False
        raise
    return True


async def check(server: AdminServer, rules: Rules) -> None:
    """The list is what the rules say."""
    listed = await server.listed()
    assert {version for version, status in listed.items() if status.state == READY} == rules.served.keys()
    assert {version for version, status in listed.items() if status.is_default} == {max(rules.served)}
    assert rules.disk.keys() <= listed.keys()
    shown = {alias: version for version, status in listed.items() for alias in status.aliases}
    assert shown == rules.served_aliases()
