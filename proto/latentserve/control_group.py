"""Quotas of processors and memory from Linux's control groups, version 1 and 2.

A limit of any group above the process's own holds for it, too: `CPUQuota=` of a systemd slice, or the limits of a pod
around its container's. So the least of all of them counts, as far up as they are mounted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ESCAPE = re.compile(r"\\([0-7]{3})")
_SYSTEM = Path("/")


def cpu_quota(root: Path = _SYSTEM) -> float | None:
    """Processors that this process may use, such as 1.5; None where no quota holds.

    `root` is the file system in which /proc/self and what it names is looked up.
    """
    quotas = []
    for group in _groups("cpu", root):
        for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):  # of version 2, of version 1
            numbers = _numbers(*(group / file for file in files))
            if len(numbers) == 2 and min(numbers) > 0:
                quotas.append(numbers[0] / numbers[1])
    return min(quotas, default=None)


def memory_limit(root: Path = _SYSTEM) -> int | None:
    """Bytes of memory that this process and its group may have; None where no limit holds.

    Version 1 writes no limit as a number that no machine reaches. `root` is as for `cpu_quota`.
    """
    files = ("memory.max", "memory.limit_in_bytes")
    limits = [number for group in _groups("memory", root) for file in files for number in _numbers(group / file)]
    return min(limits, default=None)


def _numbers(*files: Path) -> list[int]:
    """The numbers in the files; none where one is missing, or says "max"."""
    try:
        return [int(word) for file in files for word in file.read_text().split()]
    except (OSError, ValueError):
        return []


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's own group and those above it, in every hierarchy that may have the controller."""
    for path, mount, place in _hierarchies(controller, root):
        folder = place / path.relative_to(mount) if path.is_relative_to(mount) and ".." not in path.parts else place
        yield folder
        while folder != place:
            folder = folder.parent
            yield folder


def _hierarchies(controller: str, root: Path) -> Iterator[tuple[PurePosixPath, PurePosixPath, Path]]:
    """The process's group, the group that is mounted, and where: what /proc/self/cgroup and mountinfo say."""
    paths = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = PurePosixPath(path)
    for line in _lines(root / "proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        mount, place = (_ESCAPE.sub(lambda code: chr(int(code[1], 8)), word) for word in left.split()[3:5])
        kind, _, options = right.split(" ", 2)
        if kind in paths and (kind == "cgroup2" or controller in options.split(",")):
            yield paths[kind], PurePosixPath(mount), root / place.lstrip("/")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:  # there is no /proc
        return []
