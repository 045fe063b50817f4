"""How many processors this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = _CGROUP) -> int:
    """Processors this process may use: its affinity, or less where the container's quota is less; at least 1.

    `cgroup` is where the container's control group is mounted, of version 2 (`cpu.max`) or of version 1
    (`cpu/cpu.cfs_quota_us` and `cpu/cpu.cfs_period_us`), as Linux documents them.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return allowed if quota is None else max(1, min(allowed, quota))


def _quota(cgroup: Path) -> int | None:
    """The whole processors of the quota; None where there is none."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = (int(word) for file in files for word in (cgroup / file).read_text().split())
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
        if quota > 0 and period > 0:
            return quota // period
    return None
