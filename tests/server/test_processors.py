"""The processors that this process may use, and what is said where it is told to use more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from running_server import running_server

from latentserve_server.available_cpus import available_cpus

ALL = len(os.sched_getaffinity(0))
THREADS = "threads are the CPU's; on CUDA they only launch kernels"


@pytest.mark.parametrize(
    ("quota", "processors"),
    [
        ("max 100000", ALL),
        ("100000 100000", 1),
        ("199999 100000", 1),
        ("50000 100000", 1),
        ("200000 100000", min(2, ALL)),
        ("100000000 100000", ALL),
    ],
)
def test_a_quota_leaves_whole_processors_and_at_least_one(tmp_path: Path, quota: str, processors: int) -> None:
    proc = tmp_path / "proc" / "self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text("0::/\n")
    (proc / "mountinfo").write_text("33 24 0:28 / /groups rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "cpu.max").write_text(f"{quota}\n")
    assert available_cpus(tmp_path) == processors


@pytest.mark.cpu_only(THREADS)
@pytest.mark.parametrize(("numerics", "whose"), [("fast", "every graph has"), ("portable", "all graphs share")])
async def test_more_threads_than_processors_are_told_of(
    repository: Path, caplog: pytest.LogCaptureFixture, numerics: str, whose: str
) -> None:
    allowed = available_cpus()
    async with running_server(repository, cpu_threads=allowed + 1, numerics=numerics):
        pass
    message = f"cpu_threads is {allowed + 1}, and this process may use {allowed} processors; {whose} {allowed} threads"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [message]


@pytest.mark.cpu_only(THREADS)
async def test_as_many_threads_as_processors_are_not(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running_server(repository, cpu_threads=available_cpus()):
        pass
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []
