"""Small Python programs on this processor, and on others that QEMU's user mode emulates.

A program is a file beside the tests that takes arguments and writes arrays, as an .npz file, to standard output.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

AVX2 = "Haswell-v4"
"""A processor with AVX2 and FMA, and neither AVX-512 nor VNNI, in QEMU's words."""

AVX = "SandyBridge"
"""A processor with AVX, and neither AVX2 nor FMA."""

EMULATED = (AVX2, AVX)

_PROGRAMS = Path(__file__).parent
_QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
_BACKSTOP_SECONDS = 300.0


def why_not() -> str | None:
    """What stands in the way of emulation here, and how to get it; None where nothing does."""
    if platform.machine() != "x86_64" or sys.platform != "linux":
        return f"other x86-64 processors are emulated on Linux and x86-64 alone, and this is {platform.platform()}"
    if _QEMU is None:
        return "there is no qemu-x86_64-static here; on Debian and Ubuntu: apt-get install qemu-user-static"
    return None


def native_flags() -> frozenset[str]:
    """What this machine's processor can do, in the kernel's words, such as "avx512f"."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def run(program: str, *arguments: object, processor: str | None = None) -> dict[str, NDArray[Any]]:
    """The arrays that the program beside this file writes on a processor of QEMU's; None: on this machine's own.

    Raises:
        AssertionError: it did not end well; the message is what it wrote to standard error.
    """
    emulation = [str(_QEMU), "-cpu", processor] if processor else []
    command = [*emulation, os.path.realpath(sys.executable), str(_PROGRAMS / program), *map(str, arguments)]
    # Not the environment's own python, which the emulator would have to find through a link and a configuration.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=_BACKSTOP_SECONDS, check=False)
    assert ended.returncode == 0, f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr.decode()}"
    with np.load(io.BytesIO(ended.stdout)) as arrays:
        return dict(arrays)


def reply(**arrays: Any) -> None:
    """Write what a program has found to its standard output."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    sys.stdout.buffer.write(file.getvalue())
