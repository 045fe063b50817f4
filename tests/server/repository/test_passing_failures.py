"""What fails for want of room, or of an answer from where the models lie, is tried again by itself."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from held_store import HeldStore
from model_shelf import Shelf, write
from running_server import channel_to, running_server
from server_process import BACKSTOP_SECONDS, ServerProcess, server_process
from tiny_bundle import TinyModel

from latentserve.v1 import models_pb2, models_pb2_grpc
from latentserve_server.bundle.bundle import read_bundle
from latentserve_server.bundle.manifest import listed_files
from latentserve_server.errors import StoreFailure
from latentserve_server.repository.remote_cache import BundleCache
from latentserve_server.repository.store import Catalog, read_catalog, write_aliases
from latentserve_server.repository.version import ModelVersion

TOO_MANY = "Too many open files"


@asynccontextmanager
async def serving(repository: Path | str, *flags: str) -> AsyncIterator[tuple[ServerProcess, Any]]:
    """A process that serves, and a stub to ask it for its models."""
    async with server_process(repository, *flags) as process:
        port = (await process.log("serving on port"))["port"]
        async with channel_to(port) as channel:
            stub = models_pb2_grpc.ModelServiceStub(channel)
            await stub.ListModels(models_pb2.ListModelsRequest())
            yield process, stub


@contextmanager
def files_left(process: ServerProcess, number: int) -> Iterator[None]:
    """Let the process open so many files beside those that it has open, at a time."""
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    highest = max(int(link.name) for link in Path(f"/proc/{process.pid}/fd").iterdir())
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (highest + 1 + number, limits[1]))
    yield
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)


async def shows(stub: Any, version: int, state: models_pb2.ModelState) -> str:
    """Return the reason of a version once it is in the state."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while True:
            listed = await stub.ListModels(models_pb2.ListModelsRequest())
            for status in listed.models:
                if (status.version, status.state) == (version, state):
                    return str(status.reason)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--poll-interval=0.5",)], ids=["asked", "polled"])
async def test_a_look_that_found_no_file_to_open_is_made_again(shelf: Shelf, flags: tuple[str, ...]) -> None:
    async with serving(shelf.root, *flags) as (process, stub):
        with files_left(process, 0):
            shelf.publish(2, 2)
            process.signal(signal.SIGHUP)
            said = (await process.log("what is served stays"))["message"]
            assert said.endswith(f"{shelf.root}: not a readable directory: {TOO_MANY}")
            await shows(stub, 1, models_pb2.MODEL_STATE_READY)
        await process.log(f"{shelf.root} can be read again")
        await process.log("vae version 2 is ready")


async def test_a_model_for_which_there_is_no_file_to_open_is_tried_again(shelf: Shelf) -> None:
    async with serving(shelf.root) as (process, stub):
        with files_left(process, 1):  # enough for a look and for reading a bundle
            shelf.publish(2, 2)
            process.signal(signal.SIGHUP)
            assert (await process.log("vae version 2 is unavailable"))["message"].endswith(TOO_MANY)
            assert (await shows(stub, 2, models_pb2.MODEL_STATE_UNAVAILABLE)).endswith(TOO_MANY)
        await process.log("vae version 2 is ready")
        assert len([line for line in process.lines if TOO_MANY in line]) == 1


@pytest.mark.slow
async def test_a_directory_that_comes_back_is_read_again_as_was_asked(shelf: Shelf) -> None:
    shelf.publish(2, 2, broken=True)
    async with serving(shelf.root) as (process, _):
        shelf.root.rename(away := shelf.root.with_name("away"))
        process.signal(signal.SIGHUP)
        await process.log("what is served stays")
        decoder = away / "vae" / "2" / "decoder.onnx"
        shutil.copy(write(away / ".whole", 2) / "decoder.onnx", decoder)
        away.rename(shelf.root)
        ready = await process.log("vae version 2 is ready")  # whose manifest is the one that failed
        assert (ready["model"], ready["version"]) == ("vae", 2)


@pytest.mark.slow
async def test_a_file_that_a_store_does_not_have_yet_is_tried_again_without_a_look(shelf: Shelf) -> None:
    async with serving(shelf.root.as_uri()) as (process, _):
        shelf.publish_written(2, lambda place: shutil.move(write(place, 2) / "decoder.onnx", shelf.root / "decoder"))
        process.signal(signal.SIGHUP)
        await process.log("vae version 2 is unavailable: it cannot be fetched from file://")
        shelf.publish(3, 3)  # of which nobody has told the server
        (shelf.root / "decoder").rename(shelf.model / "2" / "decoder.onnx")
        await process.log("vae version 2 is ready")
        assert not [line for line in process.lines if "version 3" in line]


class CountingStore(HeldStore):
    """Counts the looks at a store that holds a version back."""

    looks = 0

    def catalog(self) -> Catalog:
        self.looks += 1
        return super().catalog()


async def test_many_requests_for_a_look_while_a_version_loads_are_one(shelf: Shelf) -> None:
    store = CountingStore(shelf.root, version=2)
    async with running_server(shelf.root, store=store) as served:
        shelf.publish(2, 2)
        served.server.request_rescan()
        await store.asked()
        for _ in range(1_000):
            served.server.request_rescan()
        shelf.publish(3, 3)
        store.let()
        await shows(served.models, 3, models_pb2.MODEL_STATE_READY)
        assert store.looks == 3  # one was the start's


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A model's version 1, with an alias."""
    bundle = TinyModel().write(tmp_path / "models" / "vae" / "1")
    write_aliases(bundle.parent, {"stable": 1})
    return bundle


@contextmanager
def no_file_left() -> Iterator[None]:
    """Let this process open no file."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_bundle_that_cannot_be_opened_now_is_not_called_damaged(bundle: Path) -> None:
    with no_file_left(), pytest.raises(StoreFailure, match=f"^manifest.json: {TOO_MANY}$"):
        read_bundle(bundle)
    assert read_bundle(bundle).manifest.name == "tiny"


def test_a_cached_bundle_that_cannot_be_read_now_is_kept(bundle: Path, tmp_path: Path) -> None:
    cache = BundleCache(tmp_path / "cache", 1 << 30)
    cache.open()
    manifest = (bundle / "manifest.json").read_bytes()
    entry = cache.put(manifest, listed_files(manifest), lambda file: iter([(bundle / file.path).read_bytes()]))
    digest = hashlib.sha256(manifest).hexdigest()
    with no_file_left(), pytest.raises(OSError, match=TOO_MANY):
        cache.get(digest, listed_files)
    assert cache.get(digest, listed_files) == entry
    cache.close()


def test_a_look_that_has_seen_all_is_not_partial(bundle: Path) -> None:
    catalog = read_catalog(bundle.parents[1])
    assert (list(catalog.models), catalog.is_partial) == (["vae"], False)


@pytest.mark.parametrize(("may_pass", "longest"), [(True, 60), (False, 600)])
def test_pauses_between_tries_double_until_a_manifest_comes(may_pass: bool, longest: float) -> None:
    entry, now, pauses = ModelVersion("vae", 1, "digest", "", lambda: None), 0.0, list[float]()
    for _ in range(20):
        entry.fail("why", now=now, may_pass=may_pass)
        entry.observe("digest", now=entry.retry_at - 0.5, retry=False)
        assert not entry.needs_loading
        pauses.append(entry.retry_at - now)
        now = entry.retry_at
        entry.observe("digest", now=now, retry=False)
        assert entry.needs_loading
    assert pauses == [min(2.0**number, longest) for number in range(20)]
    entry.observe("another", now=now, retry=False)
    entry.fail("why", now=now, may_pass=may_pass)
    assert entry.retry_at == now + 1
