"""What a server and its GPU do while they are measured, a few times a second: how busy, and how much memory."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PERIOD_SECONDS = 0.25
QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits")
MIB_KIB = 1024


@dataclass(frozen=True)
class Sample:
    """One look."""

    seconds: float
    """Since the watch began."""
    server_mib: float
    """Memory of the server's own process (VmRSS)."""
    gpu_busy_percent: float | None = None
    """Of the time before, in which a kernel ran; None without a GPU."""
    gpu_mib: float | None = None
    """Memory in use on the GPU, of all processes."""


class Watch:
    """The samples so far."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def summary(self) -> dict[str, Any]:
        """How busy the GPU was, memory at first, at last and at most, and every sample."""
        busy = [sample.gpu_busy_percent for sample in self.samples if sample.gpu_busy_percent is not None]
        return {
            "gpu_busy_percent": statistics.mean(busy) if busy else None,
            "gpu_mib": _course([sample.gpu_mib for sample in self.samples if sample.gpu_mib is not None]),
            "server_mib": _course([sample.server_mib for sample in self.samples]),
            "samples": [asdict(sample) for sample in self.samples],
        }


def _course(values: Sequence[float]) -> dict[str, float] | None:
    return {"first": values[0], "last": values[-1], "most": max(values)} if values else None


@contextmanager
def watching(pid: int, device: str) -> Iterator[Watch]:
    """Watch a server's process, and on CUDA the first GPU, until the block ends."""
    watch, ended, began = Watch(), threading.Event(), time.monotonic()

    def look() -> None:
        while not ended.wait(PERIOD_SECONDS):
            try:
                busy, used = parse(_query()) if device == "cuda" else (None, None)
                watch.samples.append(Sample(time.monotonic() - began, resident_mib(pid), busy, used))
            except (OSError, subprocess.SubprocessError, ValueError):
                continue  # the server has ended, or the driver did not answer this time

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()


def _query() -> str:
    return subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=10).stdout


def parse(line: str) -> tuple[float | None, float | None]:
    """Percent and MiB of the first GPU that nvidia-smi lists; None for what the driver does not know ("[N/A]")."""
    busy, used = line.splitlines()[0].split(",")
    return _number(busy), _number(used)


def _number(text: str) -> float | None:
    return float(text) if text.strip().replace(".", "", 1).isdigit() else None


def resident_mib(pid: int) -> float:
    """VmRSS of a process, in MiB. Raises OSError or ValueError where it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / MIB_KIB
    raise ValueError(f"process {pid} has ended")
