"""Where a run was made: processor, cores, load, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from front.processes import Cores

PACKAGES = ("grpcio", "numpy", "onnxruntime", "protobuf")


def describe(cores: Cores) -> dict[str, Any]:
    """Processor with its flags, which core did what, memory, kernel, and the load before the run."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return {
        "processor": fields.get("model name", platform.machine()),
        "flags": fields.get("flags", fields.get("Features", "")).split(),
        "cores": os.cpu_count(),
        "server_core": cores.server,
        "load_core": cores.load,
        "memory_gib": round(int(memory.split()[1]) / 2**20, 1),
        "kernel": platform.release(),
        "load_average_before": os.getloadavg(),
    }


def versions() -> dict[str, str]:
    """Of Python, of the packages here, and of the checkout."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found, "commit": _commit()}


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
