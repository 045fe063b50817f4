"""glibc's allocator, tuned for training on a CPU.

By default glibc hands every freed block of a few megabytes back to the kernel and asks for it again a moment later.
The activations of a convolution are such blocks, so half of a training step goes into page faults. The variables below
keep freed memory in the process. glibc reads them once, when a process starts, hence the second start.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping

VARIABLES: Mapping[str, str] = {
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


def restart_tuned() -> None:
    """Start this process again with the tuned allocator; return where that is done already, or not glibc's to do.

    Variables that the user has set stay as they are.
    """
    if platform.libc_ver()[0] != "glibc" or VARIABLES.keys() <= os.environ.keys():
        return
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**VARIABLES, **os.environ})  # noqa: S606
