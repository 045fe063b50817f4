"""The tuned process environment for training on a CPU, and the restart that sets it.

glibc hands every freed block of a few megabytes back to the kernel and asks for it again a moment later. The
activations of a convolution are such blocks, so half of a training step goes into page faults; the MALLOC variables
keep freed memory in the process. OpenMP's threads spin while they wait for one another, which on processors that others
use as well takes the time from the very thread that they wait for; waiting passively has them sleep.

Both libraries read their variables once, when a process starts, hence the restart.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping

from latentserve_training.interruption import signals_blocked

VARIABLES: Mapping[str, str] = {
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "OMP_WAIT_POLICY": "PASSIVE",
}


def restart_tuned() -> None:
    """Restart this process with the variables set; returns if they are set already, or if the C library is not glibc.

    Variables that the user has set stay as they are.
    """
    if platform.libc_ver()[0] != "glibc" or VARIABLES.keys() <= os.environ.keys():
        return
    with signals_blocked():  # until the new process can tell of them
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**VARIABLES, **os.environ})  # noqa: S606
