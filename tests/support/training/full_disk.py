"""A command where the disk is as good as full: `full_disk.py BYTES COMMAND` can write no file beyond BYTES.

The limit is set by the program that becomes the command. `preexec_fn` would set it in a fork of the tests' process,
where other tests' gRPC threads are left half-way and can abort it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def train_within(
    size: int, argv: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`latentserve-train` in a process that can write no file beyond `size` bytes."""
    return run_within(size, ["latentserve-train", "--untuned", *argv], environment)


def run_within(
    size: int, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command of the package in a process that can write no file beyond `size` bytes."""
    name, *argv = command
    return subprocess.run(
        [sys.executable, __file__, str(size), str(Path(sys.executable).parent / name), *argv],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
    )


if __name__ == "__main__":
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the command of a test
