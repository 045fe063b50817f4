"""Tensors as arrays and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from latentserve.ndarray import TensorError, from_ndarray, to_ndarray
from latentserve.v1.tensor_pb2 import DTYPE_FLOAT32, DTYPE_UINT8, DTYPE_UNSPECIFIED, Tensor

DTYPES = st.sampled_from(["<f4", ">f4", "<f2", ">f2", "u1", "<i8", ">i8"])
SHAPES = arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)


@given(array=arrays.arrays(DTYPES, SHAPES))
def test_an_array_comes_back_bit_for_bit(array: NDArray[Any]) -> None:
    received = to_ndarray(Tensor.FromString(from_ndarray(array).SerializeToString()))
    assert received.dtype == array.dtype.newbyteorder("=")
    assert received.shape == array.shape
    native = array.astype(received.dtype)
    assert received.tobytes() == native.tobytes()  # bytes, so that a NaN's payload and the sign of zero count


@given(array=arrays.arrays("<f4", arrays.array_shapes(min_dims=2, max_dims=4)), data=st.data())
def test_memory_layout_does_not_show(array: NDArray[Any], data: st.DataObject) -> None:
    view = array.transpose(data.draw(st.permutations(range(array.ndim))))[::-1, ..., ::2]
    assert from_ndarray(view) == from_ndarray(view.copy(order="C"))


def test_data_is_little_endian_in_c_order() -> None:
    tensor = from_ndarray(np.array([[1.0, 2.0], [-0.0, 0.5]], np.float32))
    assert (tensor.dtype, list(tensor.shape)) == (DTYPE_FLOAT32, [2, 2])
    assert tensor.data.hex() == "0000803f" + "00000040" + "00000080" + "0000003f"


def test_an_array_that_shares_the_message_cannot_be_written() -> None:
    array = to_ndarray(Tensor(dtype=DTYPE_UINT8, shape=[3], data=b"abc"))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


@pytest.mark.parametrize("dtype", ["float64", "int32", "int8", "bool", "complex64", "U3", "O"])
def test_an_array_without_a_wire_form_is_refused(dtype: str) -> None:
    with pytest.raises(TensorError, match="not one of float32, "):
        from_ndarray(np.zeros(3, dtype))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor(dtype=DTYPE_UNSPECIFIED, shape=[1], data=b"a"), "dtype 0 is not one of DTYPE_FLOAT32, "),
        (Tensor(dtype=7, shape=[1], data=b"a"), "dtype 7 is not one of"),  # type: ignore[arg-type]
        (Tensor(dtype=DTYPE_UINT8, shape=[-1], data=b""), r"shape \[-1\] has a negative extent"),
        (Tensor(dtype=DTYPE_UINT8, shape=[-2, -2], data=b"abcd"), "has a negative extent"),
        (Tensor(dtype=DTYPE_FLOAT32, shape=[2, 2], data=b"a" * 15), "data has 15 bytes; float32 of .* takes 16"),
        (Tensor(dtype=DTYPE_FLOAT32, shape=[2, 2], data=b"a" * 17), "data has 17 bytes"),
        (Tensor(dtype=DTYPE_FLOAT32, shape=[], data=b""), r"float32 of shape \[\] takes 4"),
        (Tensor(dtype=DTYPE_UINT8, shape=[0, 3], data=b"a"), "data has 1 bytes; .* takes 0"),
        (Tensor(dtype=DTYPE_UINT8, shape=[1 << 62, 1 << 62], data=b""), "an extent over"),
    ],
)
def test_a_malformed_tensor_is_refused_with_what_is_wrong(tensor: Tensor, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        to_ndarray(tensor)


@pytest.mark.parametrize(
    "shape",
    [[1] * 65, [1 << 62, 4, 0], [0, *[(1 << 31) - 1] * 3]],
    ids=["65 axes", "an extent that numpy does not count", "more elements than numpy counts, beside none"],
)
def test_a_shape_that_numpy_cannot_hold_is_refused(shape: list[int]) -> None:
    data = b"" if 0 in shape else b"a"
    with pytest.raises(TensorError, match="shape"):
        to_ndarray(Tensor(dtype=DTYPE_UINT8, shape=shape, data=data))


@given(
    dtype=st.integers(-1, 4),
    shape=st.lists(st.one_of(st.integers(-2, 4), st.integers(-(2**63), 2**63 - 1)), max_size=5),
    data=st.binary(max_size=64),
)
def test_any_tensor_is_an_array_or_a_tensor_error(dtype: Any, shape: list[int], data: bytes) -> None:
    tensor = Tensor(dtype=dtype, shape=shape, data=data)
    try:
        array = to_ndarray(tensor)
    except TensorError:
        return
    assert from_ndarray(array) == tensor
