"""The processors that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

from latentserve.control_group import cpu_quota


def available_cpus(root: Path = Path("/")) -> int:
    """Processors this process may use: its affinity, or the whole ones of its quota where they are fewer; at least 1.

    `root` is where the quota is looked up, as `cpu_quota` has it.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota)))
