"""Golden rows that are a bomb, or lie about their size, are refused before they are inflated."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib import format as npy
from resigned import resign
from tiny_bundle import TinyModel

from latentserve_server.bundle.files import read_archive
from latentserve_server.errors import BundleError

Problem = Callable[[Path], Awaitable[str]]
MIB = 1 << 20


def archive(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of named bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return out.getvalue()


def array_bytes(array: np.ndarray[Any, Any], *, shape: tuple[int, ...] | None = None) -> bytes:
    """An array as a .npy file, whose header may speak of another shape."""
    out = io.BytesIO()
    header = {"descr": npy.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape or array.shape}
    npy.write_array_header_1_0(out, header)
    return out.getvalue() + array.tobytes()


ROWS = np.zeros(8, np.float32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive(("a.npy", array_bytes(ROWS, shape=(10**12,)))), "a.npy has another size than its header says"),
        (archive(("a.npy", array_bytes(ROWS, shape=(-2, -4)))), "a.npy has another size than its header says"),
        (archive(("a.npy", array_bytes(ROWS) + b"x")), "a.npy has another size than its header says"),
        (archive(("a.npy", array_bytes(ROWS.astype("U4")))), "a.npy holds <U4, no numbers"),
        (archive(("a.txt", b"text" * 30)), "the magic string is not correct"),
        (archive(("a.npy", array_bytes(ROWS)), compression=zipfile.ZIP_LZMA), "a compression other than deflate"),
        (archive(*((f"{i}.npy", array_bytes(ROWS)) for i in range(65))), "golden rows: 65 arrays where 64 are allowed"),
        (b"", "File is not a zip file"),
    ],
)
async def test_an_archive_that_lies_is_refused(tmp_path: Path, problem: Problem, data: bytes, message: str) -> None:
    directory = resign(TinyModel().write(tmp_path / "vae" / "1"), "golden.npz", data)
    said = await problem(directory)
    assert said.startswith("golden rows: ")
    assert message in said


async def test_two_arrays_of_one_name_are_refused(tmp_path: Path, problem: Problem) -> None:
    twice = archive(("a.npy", array_bytes(ROWS)), ("b.npy", array_bytes(ROWS))).replace(b"b.npy", b"a.npy")
    directory = resign(TinyModel().write(tmp_path / "vae" / "1"), "golden.npz", twice)
    assert await problem(directory) == "golden rows: not a NumPy archive of arrays: a name is there twice"


async def test_an_archive_that_says_that_it_grows_beyond_the_limit_is_refused(tmp_path: Path, problem: Problem) -> None:
    data = bytearray(archive(("a.npy", array_bytes(ROWS))))
    entry = data.index(b"PK\x01\x02")  # the central directory's; its size once inflated is at byte 24
    struct.pack_into("<I", data, entry + 24, 2**31)
    directory = resign(TinyModel().write(tmp_path / "vae" / "1"), "golden.npz", bytes(data))
    assert await problem(directory) == "golden rows: 2147483648 bytes once inflated where 536870912 are allowed"


@pytest.mark.parametrize("said", [64 * MIB + 128, 1000])
def test_a_bomb_is_not_inflated_whatever_it_says_of_its_size(said: int) -> None:
    data = bytearray(archive(("a.npy", array_bytes(np.zeros(64 * MIB, np.uint8)))))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, said)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=r"^golden rows: "):
            read_archive(bytes(data), "golden rows", MIB)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=8),
        hnp.arrays(st.sampled_from([np.float32, np.uint8, np.int64]), hnp.array_shapes(min_dims=0, min_side=0)),
        max_size=5,
    ),
    st.booleans(),
)
def test_every_archive_of_arrays_is_read(arrays: dict[str, np.ndarray[Any, Any]], compressed: bool) -> None:
    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(out, **arrays)  # type: ignore[arg-type]
    read = read_archive(out.getvalue(), "golden rows", MIB)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
