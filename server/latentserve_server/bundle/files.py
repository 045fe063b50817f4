"""A bundle's files: allowed names, sizes and links, and arrays in safetensors files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from numpy.typing import NDArray
from safetensors.numpy import load

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.errors import BundleError

MAX_GRAPH_BYTES = 1 << 30
MAX_FILE_BYTES = 512 << 20
"""The most for every other file."""
MAX_BUNDLE_BYTES = 4 << 30
MAX_FILES = 64
_MAX_NAME_BYTES = 255
_NOT_REGULAR = "not a regular file"
_LINK = "a link; put the file in its place, or name the folder where links end by --links-within"
_OPENED = Path("/proc/self/fd")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        *("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EAGAIN", "EBUSY", "EINTR", "EIO", "ESTALE", "EREMOTEIO"),
        *("ETIMEDOUT", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN"),
        *("ENETRESET", "ENETUNREACH", "ENOTCONN", "ENOLINK", "ESHUTDOWN"),
    )
    if hasattr(errno, name)
)
"""Errors that may pass: a lack of resources, or storage that cannot be reached."""


def is_passing(error: OSError) -> bool:
    """Whether the same may succeed later, though nobody changes the files."""
    return error.errno in _PASSING


def bundle_files(manifest: pb.Manifest) -> list[pb.File]:
    """The files of a bundle beside its manifest, each once.

    Raises:
        BundleError: there are too many, they are too large or two of them have one name; or a name is no plain one.
    """
    listed = list(_files_in(manifest))
    if len(listed) > MAX_FILES:
        raise BundleError(f"the manifest lists {len(listed)} files where {MAX_FILES} are allowed")
    graphs = {graph.file.path for graph in manifest.graphs}
    files: dict[str, pb.File] = {}
    for file in listed:
        check_name(file.path)
        limit = MAX_GRAPH_BYTES if file.path in graphs else MAX_FILE_BYTES
        if not 0 <= file.size_bytes <= limit:
            raise BundleError(f"{file.path}: the manifest says {file.size_bytes} bytes where {limit} are allowed")
        if files.setdefault(file.path, file) != file:
            raise BundleError(f"{file.path}: the manifest lists two different files of this name")
    total = sum(file.size_bytes for file in files.values())
    if total > MAX_BUNDLE_BYTES:
        raise BundleError(f"the files have {total} bytes where {MAX_BUNDLE_BYTES} are allowed")
    return list(files.values())


def check_name(name: str) -> None:
    """Hold a name to what cannot lead out of the bundle.

    Raises:
        BundleError: it does, or may not be a file's name.
    """
    is_plain = name not in ("", ".", "..") and Path(name).name == name and "\0" not in name
    if not is_plain or len(name.encode()) > _MAX_NAME_BYTES:
        raise BundleError(f"{name!r}: a bundle's file is a plain name inside it; the manifest names another")


def open_file(path: Path, links_within: Path | None = None) -> BufferedReader:
    """A bundle's file, to be read. Nobody is waited for at the other end of a pipe.

    A link is followed only where it ends inside `links_within`: who can write a repository could name any file of this
    machine by one, and learn from the answer whether it has the bytes of a digest.

    Raises:
        OSError: it cannot be opened, is not a regular file, or is a link that is not to be followed.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            descriptor = _open_link(path, links_within)
        elif error.errno == errno.ENXIO:  # a socket
            raise OSError(errno.EINVAL, _NOT_REGULAR, str(path)) from error
        else:
            raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, _NOT_REGULAR, str(path))
    return os.fdopen(descriptor, "rb")


def _open_link(path: Path, links_within: Path | None) -> int:
    if links_within is None:
        raise OSError(errno.EINVAL, _LINK, str(path))
    end = Path(os.path.realpath(path, strict=True))
    if not end.is_relative_to(os.path.realpath(links_within)):
        raise OSError(errno.EINVAL, f"a link that ends outside of --links-within {links_within}", str(path))
    descriptor = os.open(end, _FLAGS)
    opened = _OPENED / str(descriptor)
    if _OPENED.is_dir() and opened.readlink() != end:  # a folder on the way became a link since
        os.close(descriptor)
        raise OSError(errno.EAGAIN, "a link that changed while it was opened", str(path))
    return descriptor


def _files_in(message: Message) -> Iterator[pb.File]:
    """Every File in a message, wherever the schema has one."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for part in value if field.is_repeated else [value]:
            if isinstance(part, pb.File):
                yield part
            else:
                yield from _files_in(part)


_MAX_ARRAYS = 64
_KINDS = "biuf"
_ZIP = b"PK\x03\x04"


def read_arrays(data: bytes, what: str, max_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file of at most `max_bytes`, by name.

    `what` names the file's content in error messages.

    Raises:
        BundleError: it is no such file, is too large, or holds too many arrays, or arrays of no numbers that NumPy has.
    """
    if data.startswith(_ZIP):
        raise BundleError(f"{what}: a NumPy archive, as of an early version of the format; export the model again")
    if len(data) > max_bytes:
        raise BundleError(f"{what}: {len(data)} bytes where {max_bytes} are allowed")
    try:
        arrays: dict[str, NDArray[Any]] = load(data)
    except Exception as error:  # of its own kind, and NumPy's for types that it has not
        raise BundleError(f"{what}: not a safetensors file: {error}") from error
    if len(arrays) > _MAX_ARRAYS:
        raise BundleError(f"{what}: {len(arrays)} arrays where {_MAX_ARRAYS} are allowed")
    for name, array in arrays.items():
        if array.dtype.kind not in _KINDS:
            raise BundleError(f"{what}: {name} holds {array.dtype}, no numbers")
    return arrays
