"""Golden rows in a file that is damaged, lies about its arrays or is no safetensors file are refused in one line."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from resigned import resign
from safetensors.numpy import save
from tiny_bundle import TinyModel

from latentserve_server.bundle.bundle import read_arrays
from latentserve_server.errors import BundleError

Problem = Callable[[Path], Awaitable[str]]
MIB = 1 << 20
DAMAGED = "not a safetensors file: ..."


def said(header: Any, data: bytes = bytes(32), *, size: int | None = None) -> bytes:
    """A file with this header, which may say another size than its own."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def array(dtype: str = "F32", shape: tuple[int, ...] = (8,), ends: tuple[int, int] = (0, 32)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": ends}


def archive() -> bytes:
    """Golden rows as an early version of the format had them."""
    out = io.BytesIO()
    np.savez(out, rows=np.zeros(8))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (said({"a": array(shape=(10**12,))}), DAMAGED),
        (said({"a": array(shape=(2**62, 4))}), DAMAGED),
        (said({"a": array(ends=(0, 64), shape=(16,))}), DAMAGED),
        (said({"a": array(ends=(16, 48))}), DAMAGED),
        (said({"a": array(), "b": array()}), DAMAGED),
        (said({"a": array("BF16", (16,))}), DAMAGED),
        (said({"a": array("C64", (4,))}), "a holds complex64, no numbers"),
        (said({"a": array()}, bytes(33)), DAMAGED),
        (said({"a": array()}, size=2**40), DAMAGED),
        (said(b"no JSON"), DAMAGED),
        (b"", DAMAGED),
        (archive(), "a NumPy archive, as of an early version of the format; export the model again"),
        (save({str(i): np.zeros(1, np.float32) for i in range(65)}), "65 arrays where 64 are allowed"),
    ],
)
async def test_a_file_that_lies_is_refused(tmp_path: Path, problem: Problem, data: bytes, message: str) -> None:
    directory = resign(TinyModel().write(tmp_path / "vae" / "1"), "golden.safetensors", data)
    told = await problem(directory)
    assert re.sub("(?<=not a safetensors file: ).+", "...", told) == f"golden rows: {message}"  # safetensors' own words


def test_what_is_larger_than_is_allowed_is_not_read() -> None:
    data = save({"a": np.zeros(64 * MIB, np.uint8)})
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=r"^golden rows: \d+ bytes where 1048576 are allowed$"):
            read_arrays(data, "golden rows", MIB)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=8),
        hnp.arrays(st.sampled_from([np.float32, np.uint8, np.int64]), hnp.array_shapes(min_dims=0, min_side=0)),
        max_size=5,
    )
)
def test_every_file_of_arrays_is_read(arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    read = read_arrays(save(arrays), "golden rows", MIB)
    assert read.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], values)


@given(st.binary(max_size=200), st.integers(0, 150))
def test_whatever_the_bytes_reading_them_ends_in_arrays_or_in_one_error(noise: bytes, place: int) -> None:
    data = save({"a": np.arange(8, dtype=np.float32), "b": np.zeros((2, 3), np.uint8)})
    for damaged in (noise, data[:place] + noise + data[place + len(noise) :]):
        with suppress(BundleError):  # and in no other
            assert all(array.nbytes <= len(damaged) for array in read_arrays(damaged, "golden rows", MIB).values())
