"""The heap of the C library, where NumPy and onnxruntime have their memory from."""

from __future__ import annotations

import ctypes


def trim_heap() -> None:
    """Give back to the kernel what is free. glibc does so by itself only at the end of a thread's heap.

    Takes milliseconds, in which other threads may wait for memory. Does nothing with another C library.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
