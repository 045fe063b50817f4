"""Bundles made of links, as caches of models keep them: served where the links end inside the folder that is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from admin_server import READY, UNAVAILABLE, AdminServer, admin_server
from model_shelf import BROKEN, Shelf, write
from running_server import config_for

from latentserve_server.bundle.bundle import open_file
from latentserve_server.errors import ConfigError
from latentserve_server.server import Server

REFUSED = "manifest.json: a link; put the file in its place, or name the folder where links end by --links-within"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The folder in which links end, beside the repository."""
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Version 1, with the model of seed 1."""
    return Shelf.of(tmp_path / "models", 1)


def cached(cache: Path, seed: int, *, broken: bool = False) -> Path:
    """Make a snapshot of a bundle whose files are links to blobs beside it; returns its folder."""
    bundle, blobs, snapshot = write(cache / "written", seed, broken=broken), cache / "blobs", cache / "snapshots" / "1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(bundle.iterdir())):
        shutil.move(file, blobs / str(number))
        (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / str(number))
    return snapshot


async def rescanned(server: AdminServer, version: int) -> tuple[int, str]:
    assert await server.rescan() == []
    return (await server.states())[version]


@pytest.mark.parametrize("is_relative", [False, True], ids=["folder of links", "link to a folder of links"])
async def test_links_that_end_in_the_named_folder_are_served(shelf: Shelf, cache: Path, is_relative: bool) -> None:
    async with admin_server(shelf, links_within=str(cache)) as server:
        snapshot = cached(cache, 2)
        place = shelf.model / "2"
        if is_relative:
            place.symlink_to(snapshot)
        else:
            place.mkdir()
            for file in snapshot.iterdir():
                (place / file.name).symlink_to(file.resolve())
        assert await rescanned(server, 2) == (READY, "")
        assert await server.answering() == (2, 2)


async def test_digests_hold_through_links(shelf: Shelf, cache: Path) -> None:
    async with admin_server(shelf, links_within=str(cache)) as server:
        (shelf.model / "2").symlink_to(cached(cache, 2, broken=True))
        assert await rescanned(server, 2) == (UNAVAILABLE, BROKEN)


async def test_links_are_refused_with_what_to_do_unless_a_folder_is_named(shelf: Shelf, cache: Path) -> None:
    async with admin_server(shelf) as server:
        (shelf.model / "2").symlink_to(cached(cache, 2))
        assert await rescanned(server, 2) == (UNAVAILABLE, REFUSED)


async def test_a_link_that_ends_elsewhere_is_refused(shelf: Shelf, cache: Path, tmp_path: Path) -> None:
    async with admin_server(shelf, links_within=str(cache)) as server:
        (shelf.model / "2").symlink_to(snapshot := cached(cache, 2))
        decoder = snapshot / "decoder.onnx"
        outside = shutil.copy(decoder, tmp_path / "cache-decoder.onnx")
        decoder.unlink()
        decoder.symlink_to(outside)
        said = f"decoder.onnx: a link that ends outside of --links-within {cache}"
        assert await rescanned(server, 2) == (UNAVAILABLE, said)


@pytest.mark.parametrize("target", ["file", "nothing", "folder"])
def test_a_link_that_does_not_end_at_a_file_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").symlink_to(target)
    with pytest.raises(OSError):
        open_file(tmp_path / "file", tmp_path)


def test_the_folder_of_links_must_be_there(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--links-within "):
        Server(config_for(shelf.root, links_within=str(tmp_path / "none")))
