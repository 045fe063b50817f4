"""Every operator set that the rule allows, run by the engine: an operator that came with it gives what ONNX says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from latentserve.onnx.graph_rule import OPSETS, check_graph
from latentserve_server.engine import Cpu, Engine

Expected = Callable[[NDArray[Any]], NDArray[Any]]

CASES: list[tuple[int, str]] = [
    (7, "y = Upsample<scales = [1.0, 1.0, 2.0, 2.0]>(x)"),
    (8, "y = Expand(x, ones)"),
    (9, "p = Greater(x, zero)\n y = Where(p, x, zero)"),
    (10, "q = QuantizeLinear(x, step, middle)\n y = DequantizeLinear(q, step, middle)"),
    (11, "y = Round(x)"),
    (12, 'y = Einsum<equation = "nchw,nchw->nchw">(x, x)'),
    (13, "y = ReduceSum(x, axes)"),
    (14, "y = HardSwish(x)"),
    (15, "s = Shape<start = 1>(x)\n f = Cast<to = 1>(s)\n m = ReduceMax<keepdims = 0>(f)\n y = Mul(x, m)"),
    (16, "p = LessOrEqual(x, zero)\n y = Where(p, x, zero)"),
    (17, "y = LayerNormalization(x, scale)"),
    (18, "y = Mish(x)"),
    (19, 'y = Resize<antialias = 1, mode = "linear">(x, , halves)'),
    (20, "y = Gelu(x)"),
    (21, "y = GroupNormalization<num_groups = 2>(x, scales, scales)"),
    (21, "w = DequantizeLinear(int4, step)\n y = Add(x, w)"),
    (22, "y = Softplus(x)"),
    (23, "y = RMSNormalization(x, scale)"),
    (23, "y = Attention(x, x, x)"),
    (23, "y = RotaryEmbedding(x, cosines, cosines, places)"),
    (24, "y = Swish(x)"),
    (24, "u = Neg(x)\n y = TensorScatter(x, u)"),
    (25, "w = DequantizeLinear(int2, step)\n y = Add(x, w)"),
    (26, "y = CumProd(x, axis)"),
    (26, "b = BitCast<to = 6>(x)\n y = Cast<to = 1>(b)"),
]
SIDES = {7: (8, 8, 8), 13: (1, 4, 4), 19: (8, 2, 2)}
CONSTANTS = {
    "zero": np.float32(0),
    "step": np.float32(0.25),
    "middle": np.uint8(128),
    "axis": np.array(1),
    "axes": np.array([1]),
    "ones": np.array([1, 1, 4, 4]),
    "halves": np.array([1, 1, 0.5, 0.5], np.float32),
    "scale": np.arange(1, 5, dtype=np.float32),
    "scales": np.arange(1, 9, dtype=np.float32),
    "cosines": np.linspace(-1, 1, 16, dtype=np.float32).reshape(8, 2),
    "places": np.array([[0, 1, 2, 3], [7, 6, 5, 4]]),
}
WEIGHTS = np.resize([1, -2, -1, 0, 1], (4, 4))
UNKNOWN_TO_REFERENCE: dict[int, Expected] = {
    7: lambda x: x.repeat(2, axis=2).repeat(2, axis=3),
    10: lambda x: np.rint(x / 0.25) * 0.25,
}
"""Operators that onnx's own evaluator has in newer sets alone."""


def written(opset: int, nodes: str) -> onnx.ModelProto:
    """A model from x [batch, 8, 4, 4] to y."""
    sides = ", ".join(map(str, SIDES.get(opset, (8, 4, 4))))
    text = f'<ir_version: 13, opset_import: ["": {opset}]> g (float[batch, 8, 4, 4] x) => (float[batch, {sides}] y)'
    model: onnx.ModelProto = onnx.parser.parse_model(f"{text} {{ {nodes} }}")
    weights = {
        name: helper.make_tensor(name, dtype, WEIGHTS.shape, WEIGHTS.ravel())
        for name, dtype in (("int4", TensorProto.INT4), ("int2", TensorProto.INT2))
    }
    tensors = weights | {name: numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items()}
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(tensor for name, tensor in tensors.items() if name in used)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize(("opset", "nodes"), CASES)
def test_an_operator_that_came_with_a_set_gives_what_onnx_says(opset: int, nodes: str) -> None:
    model = written(opset, nodes)
    check_graph(model.SerializeToString())
    rows = {"x": np.random.default_rng(opset).standard_normal((2, 8, 4, 4), dtype=np.float32)}
    found = Engine(model.SerializeToString(), Cpu(threads=1)).run(rows, ["y"])["y"]
    if opset in UNKNOWN_TO_REFERENCE:
        expected = UNKNOWN_TO_REFERENCE[opset](rows["x"])
    else:
        (expected,) = ReferenceEvaluator(model).run(None, rows)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


def test_every_set_is_tried() -> None:
    assert {opset for opset, _ in CASES} == {*OPSETS}
