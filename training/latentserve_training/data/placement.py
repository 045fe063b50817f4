"""The memory that holds a dataset's images: the device's, the machine's, or a file's."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from latentserve.control_group import memory_limit
from latentserve_training.errors import DataError

Placement = Literal["auto", "device", "memory", "disk"]

_ROOMY = 2
"""Images may take at most this fraction, 1 / _ROOMY, of a memory."""


def has_room(size: int, memory: int) -> bool:
    """Whether `size` bytes of images leave enough of `memory` bytes for everything else."""
    return _ROOMY * size <= memory


def takes_images(device: torch.device, size: int) -> bool:
    """Whether `size` bytes of images may be kept in the device's memory; on a CPU they already are."""
    return device.type != "cuda" or has_room(size, torch.cuda.mem_get_info(device)[0])


def on_disk(placement: Placement, size: int, memory: int) -> bool:
    """Whether `size` bytes of images belong in a file, for a process with `memory` bytes."""
    return placement == "disk" or (placement == "auto" and not has_room(size, memory))


def machine_memory() -> int:
    """The memory of the machine, or of a control group around this process if that is less; in bytes, used or not."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = memory_limit()
    return memory if limit is None else min(memory, limit)


def gather(rows: Iterable[NDArray[np.uint8]], shape: tuple[int, ...], *, in_file: bool) -> NDArray[np.uint8]:
    """The rows, uint8 [*shape[1:]] each and shape[0] of them, as one array.

    With `in_file` it is mapped to a temporary file, which ends with it.

    Raises:
        DataError: the file cannot be written.
    """
    if in_file and shape[0]:
        return _map(rows, shape)
    images = np.empty(shape, np.uint8)
    for image, row in zip(images, rows, strict=True):
        image[:] = row
    return images


def _map(rows: Iterable[NDArray[np.uint8]], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        with tempfile.TemporaryFile() as file:
            for row in rows:
                file.write(row.tobytes())
            file.flush()
            return np.asarray(np.memmap(file, np.uint8, mode="r+", shape=shape))
    except OSError as error:
        raise DataError(
            f"{math.prod(shape):,} bytes of images do not fit into {tempfile.gettempdir()}: {error.strerror}; "
            "set TMPDIR to a folder with room"
        ) from error
