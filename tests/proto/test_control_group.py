"""Quotas and limits of a process's control group and those above it, read from trees of files of both versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from latentserve.control_group import cpu_quota, memory_limit

V2 = "33 24 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
)
UNLIMITED = str(2**63 - 4096)


def system(root: Path, groups: str, mounts: str, files: Mapping[str, str]) -> Path:
    """A file system in which a process is in these groups, below /sys/fs/cgroup."""
    proc = root / "proc" / "self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(groups)
    (proc / "mountinfo").write_text(mounts)
    for name, text in files.items():
        place = root / "sys/fs/cgroup" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")
    return root


SLICE = "0::/user.slice/server.service\n"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        (SLICE, {}, None),
        (SLICE, {"user.slice/server.service/cpu.max": "max 100000"}, None),
        (SLICE, {"user.slice/server.service/cpu.max": "150000 100000"}, 1.5),
        (SLICE, {"user.slice/cpu.max": "50000 100000"}, 0.5),
        (SLICE, {"cpu.max": "300000 100000", "user.slice/cpu.max": "max 100000"}, 3),
        (SLICE, {"user.slice/cpu.max": "100000 50000", "user.slice/server.service/cpu.max": "400000 100000"}, 2),
        (SLICE, {"user.slice/cpu.max": "400000 100000", "user.slice/server.service/cpu.max": "20000 10000"}, 2),
        (SLICE, {"user.slice/other.service/cpu.max": "100000 100000"}, None),
        (SLICE, {"user.slice/cpu.max": "what"}, None),
        (SLICE, {"user.slice/cpu.max": "100000 0"}, None),
        ("0::/\n", {"cpu.max": "100000 100000"}, 1),
        ("0::/../elsewhere\n", {"cpu.max": "100000 100000"}, 1),
    ],
)
def test_the_least_quota_of_version_2_counts(
    tmp_path: Path, groups: str, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(system(tmp_path, groups, V2, files)) == quota


OLD = "5:memory:/pod/server\n4:cpu,cpuacct:/pod/server\n3:cpuset:/\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, None),
        ({"pod/server/cpu.cfs_quota_us": "150000", "pod/server/cpu.cfs_period_us": "100000"}, 1.5),
        ({"pod/cpu.cfs_quota_us": "5000", "pod/cpu.cfs_period_us": "50000"}, 0.1),
        ({"pod/cpu.cfs_quota_us": "100000"}, None),
        ({"pod/cpu.cfs_quota_us": "100000", "pod/cpu.cfs_period_us": "0"}, None),
    ],
)
def test_the_least_quota_of_version_1_counts(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    placed = {f"cpu,cpuacct/{name}": text for name, text in files.items()}
    assert cpu_quota(system(tmp_path, OLD, V1, placed)) == quota


def test_a_container_that_sees_its_own_group_alone_has_its_quota(tmp_path: Path) -> None:
    """Its path is the host's, and what is mounted begins where the path ends."""
    mounts = V2.replace(" / ", " /kubepods/pod1/one ", 1)
    files = {"cpu.max": "200000 100000"}
    assert cpu_quota(system(tmp_path, "0::/kubepods/pod1/one\n", mounts, files)) == 2


def test_both_versions_side_by_side_are_looked_at(tmp_path: Path) -> None:
    mounts = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
    files = {
        "unified/cpu.max": "300000 100000",
        "cpu,cpuacct/pod/cpu.cfs_quota_us": "400000",
        "cpu,cpuacct/pod/cpu.cfs_period_us": "100000",
    }
    assert cpu_quota(system(tmp_path, f"{OLD}0::/\n", mounts, files)) == 3


def test_a_mount_with_a_blank_in_its_path_is_found(tmp_path: Path) -> None:
    root = system(tmp_path, "0::/\n", V2.replace("/sys/fs/cgroup", "/my\\040groups"), {})
    (root / "my groups").mkdir()
    (root / "my groups" / "cpu.max").write_text("100000 100000\n")
    assert cpu_quota(root) == 1


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "limit"),
    [
        (SLICE, V2, {"user.slice/server.service/memory.max": "max"}, None),
        (SLICE, V2, {"user.slice/server.service/memory.max": "4096"}, 4096),
        (SLICE, V2, {"user.slice/memory.max": "4096", "user.slice/server.service/memory.max": "8192"}, 4096),
        (OLD, V1, {"memory/pod/server/memory.limit_in_bytes": "4096"}, 4096),
        (OLD, V1, {"memory/pod/memory.limit_in_bytes": "4096", "memory/memory.limit_in_bytes": UNLIMITED}, 4096),
        (OLD, V1, {"cpu,cpuacct/memory.limit_in_bytes": "4096"}, None),
    ],
)
def test_the_least_limit_of_memory_counts(
    tmp_path: Path, groups: str, mounts: str, files: dict[str, str], limit: int | None
) -> None:
    assert memory_limit(system(tmp_path, groups, mounts, files)) == limit


def test_a_system_without_control_groups_limits_nothing(tmp_path: Path) -> None:
    assert (cpu_quota(tmp_path), memory_limit(tmp_path)) == (None, None)
