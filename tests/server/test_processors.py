"""The processors that a container's quota leaves, read from control groups of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from running_server import running_server

from latentserve_server.processors import available_cpus

ALL = len(os.sched_getaffinity(0))


def group(root: Path, **files: str) -> Path:
    """A control group of these files; "v1_quota" and "v1_period" are version 1's."""
    places = {"v2": "cpu.max", "v1_quota": "cpu/cpu.cfs_quota_us", "v1_period": "cpu/cpu.cfs_period_us"}
    for name, text in files.items():
        (root / places[name]).parent.mkdir(exist_ok=True)
        (root / places[name]).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        ({}, ALL),
        ({"v2": "max 100000"}, ALL),
        ({"v2": "100000 100000"}, 1),
        ({"v2": "199999 100000"}, 1),
        ({"v2": "50000 100000"}, 1),
        ({"v2": "100000000 100000"}, ALL),
        ({"v1_quota": "-1", "v1_period": "100000"}, ALL),
        ({"v1_quota": "150000", "v1_period": "100000"}, 1),
        ({"v1_quota": "5000", "v1_period": "50000"}, 1),
        ({"v1_quota": "100000"}, ALL),
        ({"v1_quota": "100000", "v1_period": "0"}, ALL),
        ({"v2": "what", "v1_quota": "100000", "v1_period": "100000"}, 1),
    ],
    ids=str,
)
def test_a_quota_leaves_whole_processors_and_at_least_one(
    tmp_path: Path, files: dict[str, str], processors: int
) -> None:
    assert available_cpus(group(tmp_path, **files)) == processors


@pytest.mark.skipif(ALL < 2, reason="one processor leaves no room for a quota of two")
def test_a_quota_of_two_is_two(tmp_path: Path) -> None:
    for number, files in enumerate(({"v2": "200000 100000"}, {"v1_quota": "200000", "v1_period": "100000"})):
        place = tmp_path / str(number)
        place.mkdir()
        assert available_cpus(group(place, **files)) == 2


@pytest.mark.parametrize(("numerics", "whose"), [("fast", "every graph has"), ("portable", "all graphs share")])
async def test_more_threads_than_processors_are_told_of(
    repository: Path, caplog: pytest.LogCaptureFixture, numerics: str, whose: str
) -> None:
    allowed = available_cpus()
    async with running_server(repository, cpu_threads=allowed + 1, numerics=numerics):
        pass
    message = f"cpu_threads is {allowed + 1}, and this process may use {allowed} processors; {whose} {allowed} threads"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [message]


async def test_as_many_threads_as_processors_are_not(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running_server(repository, cpu_threads=available_cpus()):
        pass
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []
