"""The locks of the images: versions that the tests use, all that the server asks for, and a digest of every file."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
LOCKS = sorted((CHECKOUT / "deploy" / "image" / "locks").glob("*.txt"))
PIN = re.compile(r"^([\w.-]+)==([^\s;]+)(?: *;[^\\]*)?((?: *\\\n +--hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)
OURS = {"latentserve-proto"}


def pins(text: str) -> dict[str, str]:
    """The versions of a lock, by the names of their distributions."""
    return {canonicalize_name(name): version for name, version, _ in PIN.findall(text)}


def constraints() -> dict[str, str]:
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    entries = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in entries}


def needed(distribution: str, extras: set[str]) -> set[str]:
    """The names of all that an installed distribution asks for, with those extras, and what that asks for."""
    found: set[str] = set()
    waiting = [(distribution, extras)]
    while waiting:
        name, chosen = waiting.pop()
        for line in requires(name) or ():
            wanted = Requirement(line)
            key = canonicalize_name(wanted.name)
            asked = wanted.marker is None or any(wanted.marker.evaluate({"extra": one}) for one in {"", *chosen})
            if asked and key not in found:
                found.add(key)
                waiting.append((wanted.name, wanted.extras))
    return found - OURS


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_file_of_a_lock_has_its_digest(lock: Path) -> None:
    text = lock.read_text()
    named = re.findall(r"^[\w.-]+==", text, re.MULTILINE)
    assert named
    assert len(pins(text)) == len(named)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_has_the_versions_that_the_tests_use(lock: Path) -> None:
    locked, tested = pins(lock.read_text()), constraints()
    assert {name: version for name, version in locked.items() if tested.get(name, version) != version} == {}


def test_the_image_s_lock_has_all_that_the_server_asks_for_and_no_more() -> None:
    lock = pins((CHECKOUT / "deploy" / "image" / "locks" / "server-cpu.txt").read_text())
    assert lock.keys() == needed("latentserve-server", {"cpu", "jwt", "otel"})
