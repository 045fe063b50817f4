"""The IDX format: what is written is read, and nothing else is."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from training.idx_files import to_idx

from latentserve_training.data.mnist import parse_idx, unpack
from latentserve_training.errors import DataError

arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))


@given(arrays)
def test_reads_back_what_was_written(array: NDArray[np.uint8]) -> None:
    read = parse_idx(to_idx(array), array.ndim)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.uint8
    assert read.flags.writeable


@given(arrays, st.data())
def test_refuses_every_truncation(array: NDArray[np.uint8], data: st.DataObject) -> None:
    content = to_idx(array)
    length = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(DataError):
        parse_idx(content[:length], array.ndim)


@given(arrays, st.binary(min_size=1, max_size=8))
def test_refuses_trailing_bytes(array: NDArray[np.uint8], tail: bytes) -> None:
    with pytest.raises(DataError):
        parse_idx(to_idx(array) + tail, array.ndim)


@given(arrays, st.integers(0, 3), st.integers(1, 255))
def test_refuses_any_other_magic_number(array: NDArray[np.uint8], position: int, change: int) -> None:
    content = bytearray(to_idx(array))
    content[position] ^= change
    with pytest.raises(DataError):
        parse_idx(bytes(content), array.ndim)


SMALL = to_idx(np.zeros((2, 3), np.uint8))
HUGE = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)


@pytest.mark.parametrize(
    ("content", "axes", "message"),
    [
        (SMALL, 3, "not an IDX file of uint8 with 3 axes: it starts with 0x00000802"),
        (SMALL + b"x", 2, "IDX data of shape [2, 3] takes 18 bytes, but there are 19"),
        (SMALL[:-1], 2, "IDX data of shape [2, 3] takes 18 bytes, but there are 17"),
        (
            HUGE,
            3,
            "IDX data of shape [4294967295, 4294967295, 4294967295] takes 79228162458924105385300197391 bytes, but "
            "there are 16",
        ),
    ],
)
def test_says_what_it_refuses(content: bytes, axes: int, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_idx(content, axes)
    assert str(caught.value) == message


@given(st.binary(max_size=64).filter(lambda content: not content.startswith(b"\x1f\x8b")))
def test_unpacks_gzip_and_leaves_the_rest_alone(content: bytes) -> None:
    assert unpack(gzip.compress(content), "file") == content
    assert unpack(content, "file") == content


@given(st.integers(2, 30))
def test_damaged_gzip_is_named(length: int) -> None:
    packed = gzip.compress(b"some bytes that are worth packing")
    with pytest.raises(DataError, match=r"^images\.gz: damaged gzip: "):
        unpack(packed[:length], "images.gz")
