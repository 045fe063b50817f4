"""What the graphs of tiny bundles are put together from: ONNX's textual form, and the constants that it names."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from tested_device import device

from latentserve.v1 import bundle_pb2 as pb
from latentserve.v1 import tensor_pb2

GOLDEN_ROWS = 3
FRAGILE_LIMIT = 8
"""A fragile decoder fails for latents whose first value is this large."""
FAILURES = {"cpu": "indices element out of data bounds", "cuda": "TopK"}
"""What onnxruntime says then, by the device."""

_LINKS = 300
"""Operators of a slow decoder's chain."""

_DTYPES = {
    onnx.TensorProto.FLOAT: tensor_pb2.DTYPE_FLOAT32,
    onnx.TensorProto.UINT8: tensor_pb2.DTYPE_UINT8,
    onnx.TensorProto.INT64: tensor_pb2.DTYPE_INT64,
}

CONSTANTS: dict[str, NDArray[Any]] = {
    "levels": np.array(255, np.float32),
    "zero": np.array(0, np.float32),
    "half": np.array(0.5, np.float32),
    "one": np.array(1, np.float32),
    "first": np.array([0], np.int64),
    "table": np.zeros((FRAGILE_LIMIT, 1, 1), np.float32),
    "flat_table": np.zeros(FRAGILE_LIMIT, np.float32),
    "beyond_table": np.array(FRAGILE_LIMIT + 1, np.float32),
    "state": np.eye(64, dtype=np.float32),
    "small_state": np.full(640, 1e-3, np.float32),
    "small_state_shape": np.array([640], np.int64),
    "state_shape": np.array([64, 64], np.int64),
    "one_axis": np.array([1], np.int64),
    "last_axis": np.array([2], np.int64),
    "link_share": np.array(1 / _LINKS, np.float32),
    "most_products": np.array(4000, np.float32),
}

CONVOLUTIONS = """
    hidden = Conv<pads = [1, 1, 1, 1]>(grid, conv1)
    active = Relu(hidden)
    convolved = Conv<pads = [1, 1, 1, 1]>(active, conv2)
"""

# Adds the zero that a table holds at the index in the first column: out of the table's range, the graph does not run.
FRAGILE = """
    index_column = Gather<axis = 1>(latent, first)
    indices = Cast<to = 7>(index_column)
    entries = Gather(table, indices)
    looked_up = Add(convolved, entries)
"""

# The same on CUDA, where an index out of a table's range finds zero: takes the largest of a table, one more than the
# largest value of the first column says, and there are not as many.
FRAGILE_ON_CUDA = """
    index_column = Gather<axis = 1>(latent, first)
    largest_index = ReduceMax<keepdims = 0>(index_column)
    bounded_index = Clip(largest_index, zero, beyond_table)
    taken = Add(bounded_index, one)
    taken_count = Cast<to = 7>(taken)
    taken_axis = Reshape(taken_count, one_axis)
    entries, places = TopK(flat_table, taken_axis)
    no_entry = ReduceSum<keepdims = 0>(entries)
    looked_up = Add(convolved, no_entry)
"""

# Adds zero, after as many products of matrices as the largest value of the first column says: a chain of operators that
# each do their share, so that a run can be ended between two of them. A graph of a bundle has no loops.
SLOW = f"""
    turns_column = Gather<axis = 1>(latent, first)
    most = ReduceMax<keepdims = 0>(turns_column)
    share = Mul(most, link_share)
    whole_share = Ceil(share)
    bounded = Clip(whole_share, zero, most_products)
    turns = Cast<to = 7>(bounded)
    turns_axis = Reshape(turns, one_axis)
    stack_shape = Concat<axis = 0>(turns_axis, {{state}}_shape)
    link0 = Expand({{state}}, stack_shape)
    {{links}}
    total = ReduceSum<keepdims = 0>(link{_LINKS})
    nothing = Mul(total, zero)
    logits = Add(looked_up, nothing)
"""


def fragile() -> str:
    """The nodes of a fragile decoder, on the device under test."""
    return FRAGILE_ON_CUDA if device() == "cuda" else FRAGILE


def slow() -> str:
    """The nodes of a slow decoder, on the device under test.

    A GPU would be done with the products at once. CUDA leaves the hyperbolic sine to the CPU, where as many turns take
    as long as products of the larger state do.
    """
    state, link = ("small_state", "Sinh({})") if device() == "cuda" else ("state", "MatMul({}, state)")
    links = " ".join(f"link{i + 1} = {link.format(f'link{i}')}" for i in range(_LINKS))
    return SLOW.format(state=state, links=links)


PIXELS = {
    "sigmoid": "image = Sigmoid(logits)",
    "clipped": "unclipped = Sigmoid(logits)\n image = Clip(unclipped, zero, one)",
    "tanh": "signed = Tanh(logits)\n doubled = Add(signed, one)\n image = Mul(doubled, half)",
}

LOG_SCALE = """
    scales = Gemm(latent, log_scale_weight, log_scale_bias)
    log_scale = Reshape(scales, image_shape)
"""


def shifted_by_label(name: str, *, conditional: bool) -> str:
    """Names as `name` what `plain_<name>` holds, and for a conditional model what `<name>_of_label` adds to it."""
    if not conditional:
        return f"{name} = Identity(plain_{name})"
    return f"shift_of_{name} = Gather({name}_of_label, label)\n {name} = Add(plain_{name}, shift_of_{name})"


def tensor_spec(value: onnx.ValueInfoProto) -> pb.TensorSpec:
    """How a manifest describes an input or output."""
    tensor = value.type.tensor_type
    return pb.TensorSpec(
        name=value.name, dtype=_DTYPES[tensor.elem_type], shape=[axis.dim_value for axis in tensor.shape.dim[1:]]
    )


def nearest_code(name: str) -> str:
    """Nodes that name as "codes" the entries of the codebook nearest to the values of `name`."""
    return f"""
        apart = Unsqueeze({name}, last_axis)
        differences = Sub(apart, codebook)
        distances = Abs(differences)
        codes = ArgMin<axis = 2, keepdims = 0>(distances)
    """


def golden_rows(graphs: dict[str, onnx.ModelProto], seed: int, labels: int, codes: int) -> dict[str, NDArray[Any]]:
    """Inputs of all graphs and what the graphs make of them, as a bundle has them."""
    golden: dict[str, NDArray[Any]] = {}
    for role, model in graphs.items():
        spec, *others = (tensor_spec(value) for value in model.graph.input)
        random, shape = np.random.default_rng(seed), (GOLDEN_ROWS, *spec.shape)
        inputs: dict[str, NDArray[Any]] = {
            spec.name: random.integers(0, codes, shape) if spec.name == "codes" else random.random(shape, np.float32)
        }
        inputs |= {
            other.name: np.arange(GOLDEN_ROWS, dtype=np.int64) % labels
            if other.dtype == tensor_pb2.DTYPE_INT64
            else random.random((GOLDEN_ROWS, *other.shape), np.float32)
            for other in others
        }
        names = [value.name for value in model.graph.output]
        results = _session(model).run(names, inputs)
        outputs = dict(zip(names, results, strict=True))
        golden |= {f"{role}.{name}": array for name, array in (inputs | outputs).items()}
    return golden


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
