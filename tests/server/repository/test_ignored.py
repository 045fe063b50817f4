"""What lies in a repository and is passed over is named, in one line each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_server import READY, AdminServer, admin_server
from model_shelf import VERSION, Shelf
from tiny_bundle import TinyModel

from latentserve_server.repository.store import read_catalog

NAME = "a model's folder is named with 1 to 128 letters, digits, '_', '.' and '-', the first neither '.' nor '-'"
LONG = "n" * 129


def bundle(path: Path) -> None:
    TinyModel().write(path)


def to_itself(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path.name)


def to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


CASES = [
    ("vae/2", Path.touch, f"vae/2: {VERSION}"),
    ("vae/2", to_itself, "vae/2: a link that leads nowhere"),
    ("vae/2", to_nothing, "vae/2: a link that leads nowhere"),
    ("vae/aliases.json", to_nothing, "vae/aliases.json: a link that leads nowhere"),
    ("gan", to_itself, "gan: a link that leads nowhere"),
    ("gan", Path.mkdir, "gan: it holds no version, a folder such as gan/1"),
    ("vae/9223372036854775807", bundle, f"vae/9223372036854775807: {VERSION}"),
    ("vae/1000000000000000000", bundle, f"vae/1000000000000000000: {VERSION}"),
    ("vae/04", bundle, f"vae/04: {VERSION}"),
    ("vae/0", bundle, f"vae/0: {VERSION}"),
    ("vae/1.5", bundle, f"vae/1.5: {VERSION}"),
    ("vae/latest", bundle, f"vae/latest: {VERSION}"),
    (os.fsdecode(b"vae/\xff"), Path.mkdir, f"vae/?: {VERSION}"),
    (f"{LONG}/1", bundle, f"{LONG}: {NAME}"),
    ("bad name/1", bundle, f"bad name: {NAME}"),
    ("-gan/1", bundle, f"-gan: {NAME}"),
    ("é/1", bundle, f"é: {NAME}"),
]


@pytest.mark.parametrize(("path", "make", "line"), CASES, ids=lambda value: getattr(value, "__name__", str(value)[:30]))
async def test_what_is_passed_over_is_named(
    shelf: Shelf, server: AdminServer, path: str, make: Callable[[Path], object], line: str
) -> None:
    make(shelf.root / path)
    assert await server.rescan() == [f"ignored: {line}"]
    assert await server.states() == {1: (READY, "")}


URL_CASES = [case for case in CASES if case[1] not in (to_itself, to_nothing)]


@pytest.mark.parametrize(
    ("path", "make", "line"), URL_CASES, ids=lambda value: getattr(value, "__name__", str(value)[:30])
)
async def test_what_is_passed_over_at_a_url_is_named(
    shelf: Shelf, path: str, make: Callable[[Path], object], line: str
) -> None:
    make(shelf.root / path)
    async with admin_server(shelf, repository=shelf.root.as_uri()) as server:
        assert await server.rescan() == [f"ignored: {line}"]
        assert await server.states() == {1: (READY, "")}


def test_the_longest_names_are_served(tmp_path: Path) -> None:
    bundle(tmp_path / LONG[:-1] / str(10**18 - 1))
    catalog = read_catalog(tmp_path)
    assert list(catalog.models[LONG[:-1]].digests) == [10**18 - 1]
    assert catalog.problems == []


def test_what_nobody_takes_for_a_model_is_passed_over_in_silence(shelf: Shelf) -> None:
    for path in ("README.md", "vae/notes.txt", ".git/config", "lost+found/1", "vae/.staging-2/x", "gan/.staging-1/x"):
        (shelf.root / path).parent.mkdir(parents=True, exist_ok=True)
        (shelf.root / path).touch()
    os.mkfifo(shelf.model / "pipe")
    assert read_catalog(shelf.root).problems == []
