"""A NumPy archive of a bundle: looked through before it is inflated, so that neither its size nor an array can lie."""

from __future__ import annotations

import io
import math
import zipfile
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from latentserve_server.errors import BundleError

_MAX_ARRAYS = 64
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_KINDS = "biuf"


def read_archive(data: bytes, what: str, max_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of a NumPy archive, by name; together they have at most `max_bytes` once inflated.

    `what` the archive holds is said where it cannot be read.

    Raises:
        BundleError: it is no such archive, is too large, or holds something other than arrays of numbers.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_members(archive.infolist(), what, max_bytes)
            for member in archive.infolist():
                with archive.open(member) as file:
                    _check_header(file, member)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except BundleError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds on damaged archives
        raise BundleError(f"{what}: not a NumPy archive of arrays: {error}") from error


def _check_members(members: list[zipfile.ZipInfo], what: str, max_bytes: int) -> None:
    if len(members) > _MAX_ARRAYS:
        raise BundleError(f"{what}: {len(members)} arrays where {_MAX_ARRAYS} are allowed")
    total = sum(member.file_size for member in members)  # reading a member ends there, whatever it holds
    if total > max_bytes:
        raise BundleError(f"{what}: {total} bytes once inflated where {max_bytes} are allowed")
    if len({member.filename for member in members}) != len(members):
        raise BundleError(f"{what}: not a NumPy archive of arrays: a name is there twice")
    if any(member.compress_type not in _COMPRESSIONS for member in members):
        raise BundleError(f"{what}: not a NumPy archive of arrays: a compression other than deflate")


def _check_header(file: IO[bytes], member: zipfile.ZipInfo) -> None:
    """Hold the size that an array's header speaks of to the bytes that there are; numpy would allocate it first."""
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"{member.filename} has format {version}")
    shape, _, dtype = read(file)
    if dtype.kind not in _KINDS:
        raise ValueError(f"{member.filename} holds {dtype}, no numbers")
    if math.prod(shape) * dtype.itemsize != member.file_size - file.tell() or min(shape, default=0) < 0:
        raise ValueError(f"{member.filename} has another size than its header says")
