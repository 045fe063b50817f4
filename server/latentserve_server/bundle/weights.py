"""Weights in a file beside a graph: read once, verified, and given to the runtime where they lie."""

from __future__ import annotations

import hashlib
import mmap
import os
from dataclasses import dataclass

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.errors import BundleError


@dataclass(frozen=True)
class Weights:
    """Values of a graph's initializers."""

    name: str
    """The file's, as the graph calls it."""
    memory: mmap.mmap
    """Its bytes, in memory of this process alone: a file that is mapped could change, or end, after it was verified."""

    def __len__(self) -> int:
        """Bytes."""
        return len(self.memory)


def read_weights(described: pb.File, descriptor: int) -> Weights:
    """The weights in an open file.

    Raises:
        BundleError: it is not what the manifest says, or there is no memory for it. OSError: it cannot be read.
    """
    size, found = described.size_bytes, os.fstat(descriptor).st_size
    if found != size or not size:
        raise BundleError(f"{described.path}: {found} bytes where the manifest says {size}")
    try:
        memory = mmap.mmap(-1, size)
    except (OSError, OverflowError) as error:
        raise BundleError(f"{described.path}: there is no memory for its {size} bytes") from error
    place = memoryview(memory)
    while place:
        read = os.readv(descriptor, [place[: 1 << 30]])
        if not read:
            raise BundleError(f"{described.path}: it became shorter while it was read")
        place = place[read:]
    place.release()
    if hashlib.sha256(memory).hexdigest() != described.sha256:
        raise BundleError(f"{described.path}: the SHA-256 is not the manifest's; the file was changed or damaged")
    return Weights(described.path, memory)
