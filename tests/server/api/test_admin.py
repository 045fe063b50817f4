"""The admin service: what it changes, what it refuses, and what of it survives a restart."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from admin_server import READY, UNAVAILABLE, AdminServer, admin_server, refusal
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from model_shelf import BROKEN, Shelf
from running_server import config_for, running_server

from latentserve.v1 import models_pb2, models_pb2_grpc
from latentserve_server.errors import ConfigError
from latentserve_server.repository.store import MAX_ALIASES_BYTES, alias_bytes
from latentserve_server.server import Server


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Versions 1 to 3, of which the policy wants 3."""
    return Shelf.of(tmp_path, 1, 2, 3)


async def ready(server: AdminServer) -> set[int]:
    return {version for version, (state, _) in (await server.states()).items() if state == READY}


async def test_a_loaded_version_stays_whatever_the_policy(shelf: Shelf, measured: AdminServer) -> None:
    reply = await measured.admin.Load(models_pb2.LoadRequest(name="vae", version=1))
    assert (reply.model.version, reply.model.state, reply.model.is_default) == (1, READY, False)
    assert await ready(measured) == {1, 3}
    assert await measured.answering() == (3, 3)
    shelf.publish(4, 4)
    await measured.rescan()
    await measured.load(1)  # is READY already
    assert await ready(measured) == {1, 4}
    assert await measured.served.metric("model_loads_total") == 3


async def test_load_finds_what_was_just_published(shelf: Shelf, server: AdminServer) -> None:
    shelf.publish(7, 7)
    await server.load(7)
    assert await server.answering() == (7, 7)
    assert await ready(server) == {7}


async def test_load_reloads_what_was_replaced(shelf: Shelf, server: AdminServer) -> None:
    shelf.publish(3, 13)
    await server.load(3)
    assert await server.answering() == (3, 13)


async def test_load_of_a_broken_version_is_refused_and_changes_nothing(shelf: Shelf, measured: AdminServer) -> None:
    shelf.publish(4, 4, broken=True)
    for _ in range(2):
        await refusal(measured.load(4))
    assert await ready(measured) == {3}
    assert await measured.served.metric("model_loads_total", result="failure") == 2
    shelf.publish(5, 5)
    shelf.publish(4, 14)
    await measured.rescan()
    assert await ready(measured) == {5}  # the failed Load left no wish behind


async def test_an_unloaded_version_stays_away_and_the_next_one_takes_over(shelf: Shelf, server: AdminServer) -> None:
    await server.unload(3)
    assert await server.states() == {
        1: (UNAVAILABLE, UNWANTED),
        2: (READY, ""),
        3: (UNAVAILABLE, "unloaded on request"),
    }
    assert await server.answering() == (2, 2)
    await server.rescan()
    await server.unload(3)
    assert await ready(server) == {2}
    await server.load(3)
    assert await ready(server) == {3}


async def test_the_last_version_can_be_unloaded(shelf: Shelf, server: AdminServer) -> None:
    for version in (1, 2, 3):
        await server.unload(version)
    assert await ready(server) == set()
    said = await refusal(server.answering(), grpc.StatusCode.UNAVAILABLE)
    assert said == "; ".join(f"model 'vae' version {one} is unavailable: unloaded on request" for one in (1, 2, 3))


async def test_an_alias_moves_and_survives_a_restart(shelf: Shelf) -> None:
    async with admin_server(shelf) as server:
        assert await server.set_alias("stable", 3)
        await server.load(2)
        assert await server.set_alias("canary", 2)
        assert await server.answering(alias="canary") == (2, 2)
        assert await server.set_alias("stable", 2)
        assert await server.answering(alias="stable") == (2, 2)
        described = await server.served.models.GetModel(models_pb2.GetModelRequest(model={"name": "vae", "version": 2}))
        assert list(described.model.aliases) == ["canary", "stable"]
    assert json.loads((shelf.model / "aliases.json").read_text()) == {"canary": 2, "stable": 2}
    shelf.publish(4, 4)
    async with admin_server(shelf) as server:
        assert await ready(server) == {2, 4}
        assert await server.answering(alias="stable") == (2, 2)


async def test_an_alias_that_moves_away_lets_its_version_go(server: AdminServer) -> None:
    await server.load(1)
    await server.load(2)
    await server.set_alias("stable", 1)
    await server.unload(2)
    await server.load(2)
    await refusal(server.unload(1))
    await server.set_alias("stable", 3)
    await server.unload(1)
    assert await ready(server) == {2, 3}


async def test_a_deleted_alias_is_not_found_and_its_version_goes(shelf: Shelf) -> None:
    (shelf.model / "aliases.json").write_text('{"stable": 1}')
    async with admin_server(shelf) as server:
        assert await ready(server) == {1, 3}
        assert await server.delete_alias("stable")
        await refusal(server.answering(alias="stable"), grpc.StatusCode.NOT_FOUND)
        assert (await server.states())[1][0] != READY
        await refusal(server.delete_alias("stable"), grpc.StatusCode.NOT_FOUND)
    assert json.loads((shelf.model / "aliases.json").read_text()) == {}


async def test_aliases_that_someone_else_wrote_are_kept(shelf: Shelf, server: AdminServer) -> None:
    await server.set_alias("stable", 3)
    (shelf.model / "aliases.json").write_text('{"theirs": 3, "stable": 3}')
    await server.set_alias("ours", 3)
    assert json.loads((shelf.model / "aliases.json").read_text()) == {"ours": 3, "stable": 3, "theirs": 3}
    assert await server.answering(alias="theirs") == (3, 3)


async def test_a_file_of_aliases_does_not_grow_beyond_what_is_read(shelf: Shelf, server: AdminServer) -> None:
    file, room = shelf.model / "aliases.json", len(alias_bytes({"a" * 128: 3})) - len(alias_bytes({}))
    written = alias_bytes({f"{number:0128}": 3 for number in range(MAX_ALIASES_BYTES // room)})
    file.write_bytes(written)
    await server.rescan()
    said = await refusal(server.set_alias("a" * 128, 3))
    assert said == f"vae: aliases.json would be longer than {MAX_ALIASES_BYTES} bytes; delete some"
    assert file.read_bytes() == written
    assert await server.delete_alias(f"{0:0128}")
    assert await server.set_alias("a" * 128, 3)
    assert await server.rescan() == []
    assert await server.answering(alias="a" * 128) == (3, 3)


async def test_an_alias_that_cannot_be_stored_lasts_until_the_file_changes(shelf: Shelf, server: AdminServer) -> None:
    (shelf.model / "aliases.json").mkdir()  # what no file can take the place of
    assert not await server.set_alias("stable", 3)
    await server.rescan()
    assert not await server.set_alias("canary", 3)
    assert await server.answering(alias="stable") == await server.answering(alias="canary") == (3, 3)
    assert [path.name for path in shelf.model.iterdir() if path.is_file()] == []
    (shelf.model / "aliases.json").rmdir()
    (shelf.model / "aliases.json").write_text('{"stable": 3}')
    await server.rescan()
    assert await server.answering(alias="stable") == (3, 3)
    await refusal(server.answering(alias="canary"), grpc.StatusCode.NOT_FOUND)


NAMES = "is not 1 to 128 letters, digits, '_', '.' and '-', the first neither '.' nor '-'"
NO_MODEL = "model 'none' is not in the repository"
NO_VERSION = "model 'vae' has no version 9"
UNWANTED = "the version policy latest:1 does not want it"
MALFORMED, MISSING, IN_THE_WAY = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)
REFUSALS: list[tuple[str, dict[str, Any], grpc.StatusCode, str]] = [
    ("Load", {"name": "none", "version": 1}, MISSING, NO_MODEL),
    ("Load", {"name": "vae", "version": 9}, MISSING, NO_VERSION),
    ("Load", {"name": "vae", "version": 4}, IN_THE_WAY, f"model 'vae' version 4 cannot be loaded: {BROKEN}"),
    ("Load", {"name": "vae"}, MALFORMED, "version: 0; versions are at least 1"),
    ("Unload", {"name": "none", "version": 1}, MISSING, NO_MODEL),
    ("Unload", {"name": "vae", "version": 9}, MISSING, NO_VERSION),
    ("Unload", {"name": "vae", "version": 3}, IN_THE_WAY, "model 'vae' version 3 has the alias live; move it first"),
    ("Unload", {"name": "vae", "version": -1}, MALFORMED, "version: -1; versions are at least 1"),
    ("SetAlias", {"name": "none", "alias": "stable", "version": 1}, MISSING, NO_MODEL),
    ("SetAlias", {"name": "vae", "alias": "stable", "version": 9}, MISSING, NO_VERSION),
    (
        "SetAlias",
        {"name": "vae", "alias": "stable", "version": 1},
        IN_THE_WAY,
        f"alias 'stable' cannot move: model 'vae' version 1 is unavailable: {UNWANTED}",
    ),
    ("SetAlias", {"name": "vae", "alias": "stable"}, MALFORMED, "version: 0; versions are at least 1"),
    ("SetAlias", {"name": "vae", "version": 3}, MALFORMED, f"alias: '' {NAMES}"),
    ("SetAlias", {"name": "vae", "version": 3, "alias": "a b"}, MALFORMED, f"alias: 'a b' {NAMES}"),
    ("SetAlias", {"name": "vae", "version": 3, "alias": "é"}, MALFORMED, f"alias: 'é' {NAMES}"),
    ("SetAlias", {"name": "vae", "version": 3, "alias": "a" * 129}, MALFORMED, f"alias: '{'a' * 128}...' {NAMES}"),
    ("DeleteAlias", {"name": "none", "alias": "stable"}, MISSING, NO_MODEL),
    ("DeleteAlias", {"name": "vae", "alias": "stable"}, MISSING, "model 'vae' has no alias 'stable'"),
    ("DeleteAlias", {"name": "vae", "alias": "-a"}, MALFORMED, f"alias: '-a' {NAMES}"),
]
"""Of versions 1 to 3, of which 3 is served and has the alias "live", and version 4, which is broken."""


@pytest.mark.parametrize(("method", "fields", "code", "message"), REFUSALS)
async def test_what_cannot_be_done_is_refused_and_changes_nothing(
    shelf: Shelf, method: str, fields: dict[str, Any], code: grpc.StatusCode, message: str
) -> None:
    shelf.publish(4, 4, broken=True)
    (shelf.model / "aliases.json").write_text('{"live": 3}')
    async with admin_server(shelf) as server:
        before = await server.listed()
        request = getattr(models_pb2, f"{method}Request")(**fields)
        assert await refusal(getattr(server.admin, method)(request), code) == message
        assert await server.listed() == before
    assert (shelf.model / "aliases.json").read_text() == '{"live": 3}'


async def test_the_admin_service_is_on_no_other_port_and_off_unless_asked_for(shelf: Shelf) -> None:
    async with running_server(shelf.root) as served:
        assert served.server.admin_port == 0
        stub = models_pb2_grpc.ModelAdminServiceStub(served.channel)
        await refusal(stub.Rescan(models_pb2.RescanRequest()), grpc.StatusCode.UNIMPLEMENTED)
    async with admin_server(shelf) as server:
        models = models_pb2_grpc.ModelServiceStub(server.channel)
        await refusal(models.ListModels(models_pb2.ListModelsRequest()), grpc.StatusCode.UNIMPLEMENTED)
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(server.channel)  # type: ignore[arg-type]
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        replies = [reply async for reply in reflection.ServerReflectionInfo(iter([request]))]
        names = {service.name for reply in replies for service in reply.list_services_response.service}
        reflections = {f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha")}
        assert names == {"latentserve.v1.ModelAdminService", *reflections}


async def test_an_admin_call_is_counted_and_has_a_request_id(measured: AdminServer) -> None:
    call: Any = measured.admin.Load(
        models_pb2.LoadRequest(name="vae", version=1), metadata=(("x-request-id", "change-7"),)
    )
    await call
    assert ("x-request-id", "change-7") in list(await call.trailing_metadata())
    assert await measured.served.metric("requests_total", method="Load", model="vae", code="OK") == 1


async def test_an_admin_port_in_use_is_one_line(shelf: Shelf) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        server = Server(config_for(shelf.root, admin_listen=address))
        with pytest.raises(ConfigError, match=f"^--admin-listen {address}: "):
            await server.start()
        await server.stop()
