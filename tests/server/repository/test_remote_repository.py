"""A repository at a URL: it is served as a directory is, from a cache that is never trusted. The URL is file://."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from admin_server import READY, UNAVAILABLE, AdminServer, admin_server, refusal
from model_shelf import BROKEN, Shelf, write
from running_server import config_for, running_server
from server_process import server_process
from tiny_bundle import TinyModel

from latentserve_server.errors import ConfigError
from latentserve_server.server import Server


class RemoteShelf(Shelf):
    """A shelf that a server knows by its URL."""

    @property
    def url(self) -> str:
        return self.root.as_uri()


@pytest.fixture
def shelf(tmp_path: Path) -> RemoteShelf:
    """Version 1, with the model of seed 1."""
    return RemoteShelf.of(tmp_path / "models", 1)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def server(shelf: RemoteShelf, cache: Path) -> AsyncIterator[AdminServer]:
    async with admin_server(shelf, repository=shelf.url, cache_dir=str(cache)) as server:
        yield server


def names(directory: Path) -> list[str]:
    """What lies in a directory."""
    return sorted(path.name for path in directory.iterdir())


def entries(cache: Path) -> list[Path]:
    """The bundles in the cache."""
    return sorted(path for path in cache.iterdir() if len(path.name) == 64)


async def test_versions_come_and_go_with_the_store(shelf: RemoteShelf, server: AdminServer) -> None:
    shelf.publish(2, 2)
    assert await server.rescan() == []
    assert await server.answering() == (2, 2)
    shelf.publish(3, 3, broken=True)
    (shelf.model / "latest").mkdir()
    (shelf.model / "4").mkdir()
    assert len(await server.rescan()) == 1
    assert (await server.states())[3] == (UNAVAILABLE, BROKEN)
    assert 4 not in await server.states()
    shelf.remove(2)
    await server.rescan()
    assert await server.answering() == (1, 1)


async def test_a_version_is_fetched_once_for_its_manifest(shelf: RemoteShelf, server: AdminServer, cache: Path) -> None:
    (entry,) = entries(cache)
    inode = (entry / "decoder.onnx").stat().st_ino
    await server.unload(1)
    (shelf.model / "1" / "decoder.onnx").unlink()
    await server.load(1)
    assert await server.answering() == (1, 1)
    assert [one / "decoder.onnx" for one in entries(cache)] == [entry / "decoder.onnx"]
    assert (entry / "decoder.onnx").stat().st_ino == inode


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def to_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda file: file.write_bytes(b""), to_pipe])
@pytest.mark.parametrize("name", ["decoder.onnx", "manifest.json"])
async def test_a_poisoned_entry_is_fetched_again(
    shelf: RemoteShelf, cache: Path, name: str, damage: Callable[[Path], object]
) -> None:
    async with running_server(shelf.url, cache_dir=str(cache)):
        pass
    (entry,) = entries(cache)
    damage(entry / name)
    async with admin_server(shelf, repository=shelf.url, cache_dir=str(cache)) as server:
        assert await server.answering() == (1, 1)
    assert entries(cache) == [entry]
    assert (entry / name).read_bytes() == (shelf.model / "1" / name).read_bytes()


async def test_what_broke_off_is_dropped(shelf: RemoteShelf, cache: Path) -> None:
    left = cache / ".staging-left"
    TinyModel().write(left)
    async with running_server(shelf.url, cache_dir=str(cache)):
        assert not left.exists()


async def test_a_damaged_version_leaves_nothing_in_the_cache(
    shelf: RemoteShelf, server: AdminServer, cache: Path
) -> None:
    (entry,) = entries(cache)
    shelf.publish(2, 2, broken=True)
    await server.rescan()
    assert names(cache) == [".lock", entry.name]


async def test_a_cache_has_one_server(shelf: RemoteShelf, server: AdminServer, cache: Path) -> None:
    with pytest.raises(ConfigError, match=f"^--cache-dir {cache}: another server uses it$"):
        async with running_server(shelf.url, cache_dir=str(cache)):
            pass


async def test_old_entries_make_room_for_new_ones(shelf: RemoteShelf, cache: Path) -> None:
    def size(version: int) -> int:
        return sum(file.stat().st_size for file in (shelf.model / str(version)).iterdir())

    large = {"height": 256, "width": 256}  # a MiB of weights
    for version in (2, 3):
        shelf.publish(version, version, **large)
    options = {"repository": shelf.url, "cache_dir": str(cache), "version_policy": "explicit"}
    async with admin_server(shelf, cache_bytes=size(1) + size(2) + size(3) - 1, **options) as server:
        for version in (1, 2, 1, 3):
            await server.load(version)
            await server.unload(version)
    kept = sorted(json.loads((entry / "manifest.json").read_text())["image"]["height"] for entry in entries(cache))
    assert kept == [4, 256]  # version 2 was used longest ago
    async with admin_server(shelf, cache_bytes=size(2) - 1, **options) as server:
        assert "--cache-bytes" in await refusal(server.load(2))


async def test_without_a_cache_directory_nothing_is_left_behind(shelf: RemoteShelf, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    async with server_process(shelf.url, variables={"TMPDIR": str(temporary)}) as process:
        await process.log("serving on port")
        assert len(list(temporary.glob("latentserve-*/*/decoder.onnx"))) == 1
        process.signal(15)
        assert await process.exit_status() == 0
    assert list(temporary.iterdir()) == []


async def test_a_file_that_cannot_be_read_is_tried_again_at_the_next_look(
    shelf: RemoteShelf, server: AdminServer
) -> None:
    shelf.publish(2, 2)
    decoder = shelf.model / "2" / "decoder.onnx"
    data = decoder.read_bytes()
    decoder.unlink()
    decoder.mkdir()
    await server.rescan()
    assert (await server.states())[2][0] == UNAVAILABLE
    decoder.rmdir()
    decoder.write_bytes(data)
    await server.rescan()
    assert (await server.states())[2] == (READY, "")


async def test_a_pipe_in_the_place_of_a_file_holds_up_no_change(shelf: RemoteShelf, server: AdminServer) -> None:
    to_pipe(shelf.publish(2, 2) / "decoder.onnx")
    await server.rescan()
    assert (await server.states())[2][0] == UNAVAILABLE
    assert await server.set_alias("stable", 1)


@pytest.mark.slow
async def test_a_poll_tries_again_what_could_not_be_fetched_and_says_so_once(shelf: RemoteShelf) -> None:
    async with server_process(shelf.url, "--poll-interval=0.1", "--log-level=debug") as process:
        await process.log("serving on port")
        shelf.publish_written(2, lambda place: shutil.move(write(place, 2) / "decoder.onnx", shelf.root / "decoder"))
        await process.log("vae version 2 is unavailable: it cannot be fetched from file://")
        for _ in range(3):
            await process.log("loading vae version 2")
        (shelf.root / "decoder").rename(shelf.model / "2" / "decoder.onnx")
        await process.log("vae version 2 is ready")
        said = [line for line in process.lines if "it cannot be fetched" in line and "DEBUG" not in line]
        assert len(said) == 1


async def test_aliases_are_stored_by_a_rename(shelf: RemoteShelf, server: AdminServer) -> None:
    assert await server.set_alias("stable", 1)
    assert json.loads((shelf.model / "aliases.json").read_text()) == {"stable": 1}
    assert names(shelf.model) == ["1", "aliases.json"]
    assert await server.answering(alias="stable") == (1, 1)
    (shelf.model / "aliases.json").write_text("[]")
    assert len(await server.rescan()) == 1
    assert await server.answering(alias="stable") == (1, 1)


async def test_only_what_the_manifest_lists_is_fetched(shelf: RemoteShelf, cache: Path) -> None:
    (shelf.model / "1" / "secret.txt").write_text("not listed")
    async with running_server(shelf.url, cache_dir=str(cache)):
        pass
    (entry,) = entries(cache)
    assert names(entry) == ["CARD.md", "decoder.onnx", "encoder.onnx", "golden.safetensors", "manifest.json"]


@pytest.mark.skipif(find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_a_missing_extra_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^--repository gs://b/m: "):
        Server(config_for("gs://b/m"))
