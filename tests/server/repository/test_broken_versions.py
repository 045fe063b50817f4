"""A version that is wanted and does not load is told of until it loads, or is not wanted any more."""

from __future__ import annotations

from admin_server import AdminServer, refusal
from model_shelf import Shelf

from latentserve.v1 import models_pb2


async def broken(server: AdminServer) -> list[int]:
    """The versions that the metrics call broken."""
    return [version for version in range(1, 5) if await server.served.metric("model_broken", version=str(version))]


async def test_a_version_is_broken_until_it_is_mended(shelf: Shelf, measured: AdminServer) -> None:
    assert await broken(measured) == []
    shelf.publish(2, 2, broken=True)
    for _ in range(2):
        await measured.rescan()
        assert await broken(measured) == [2]
    shelf.publish(2, 2)
    await measured.rescan()
    assert await broken(measured) == []


async def test_a_broken_version_below_one_that_is_served_is_not_wanted(shelf: Shelf, measured: AdminServer) -> None:
    shelf.publish(2, 2, broken=True)
    await measured.rescan()
    shelf.publish(3, 3)
    await measured.rescan()
    assert await broken(measured) == []


async def test_a_broken_version_that_is_taken_away_is_none(shelf: Shelf, measured: AdminServer) -> None:
    shelf.publish(2, 2, broken=True)
    await measured.rescan()
    shelf.remove(2)
    await measured.rescan()
    assert await broken(measured) == []


async def test_a_broken_version_that_is_unloaded_is_none(shelf: Shelf, measured: AdminServer) -> None:
    shelf.publish(2, 2, broken=True)
    await measured.rescan()
    await measured.unload(2)
    assert await broken(measured) == []


async def test_a_version_that_answers_is_broken_where_its_next_copy_is(shelf: Shelf, measured: AdminServer) -> None:
    shelf.publish(1, 5, broken=True)
    await measured.rescan()
    assert await broken(measured) == [1]
    assert await measured.answering() == (1, 1)
    shelf.publish(1, 5)
    await measured.rescan()
    assert await broken(measured) == []


async def test_a_version_that_only_a_load_asked_for_is_none(shelf: Shelf, measured: AdminServer) -> None:
    shelf.publish(2, 2)
    await measured.rescan()
    shelf.publish(1, 1, broken=True)
    await refusal(measured.admin.Load(models_pb2.LoadRequest(name="vae", version=1)))
    assert await broken(measured) == []
