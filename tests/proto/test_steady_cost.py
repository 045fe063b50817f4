"""Graphs whose runs take as long for any values, and those whose values say how much there is to do."""

from __future__ import annotations

import onnx.parser
import pytest

from latentserve.onnx.graph_rule import check_graph, has_steady_cost

BRANCH = "g () => (float[1] o) { o = Identity(x) }"


def graph(*nodes: str, initializers: str = "", opset: int = 18) -> bytes:
    """A model from x [batch, 4] to y."""
    text = f"""
        <ir_version: 10, opset_import: ["": {opset}]>
        g (float[batch, 4] x) => (float[batch, n] y) <{initializers}> {{ {" ".join(nodes)} }}
    """
    model = onnx.parser.parse_model(text).SerializeToString()
    check_graph(model)
    return model


@pytest.mark.parametrize(
    ("nodes", "initializers"),
    [
        (["y = Relu(x)"], ""),
        (["h = MatMul(x, w)", "y = Sigmoid(h)"], "float[4, 2] w = {1, 1, 1, 1, 1, 1, 1, 1}"),
        (["y = Tile(x, twice)"], "int64[2] twice = {1, 2}"),
        (["twice = Constant<value_ints = [1, 2]>()", "y = Tile(x, twice)"], ""),
        (["s = Shape(x)", "y = Reshape(x, s)"], ""),
        (
            ["s = Shape(x)", "r = Gather(s, first)", "t = Concat<axis = 0>(r, rest)", "y = Reshape(x, t)"],
            "int64[1] first = {0}, int64[2] rest = {2, 2}",
        ),
        (["y = ReduceSum(x, axes)"], "int64[1] axes = {1}"),
        (["y = Slice(x, begin, end)"], "int64[1] begin = {0}, int64[1] end = {2}"),
    ],
    ids=["elementwise", "product", "constant tile", "tile of a node", "reshape", "reshape by rows", "sum", "slice"],
)
def test_sizes_that_the_rows_decide_are_steady(nodes: list[str], initializers: str) -> None:
    assert has_steady_cost(graph(*nodes, initializers=initializers))


@pytest.mark.parametrize(
    ("nodes", "initializers"),
    [
        (["n = Cast<to = 7>(x)", "s = ReduceMax<keepdims = 0>(n, rows)", "y = Reshape(x, s)"], "int64[1] rows = {0}"),
        (["n = Cast<to = 7>(x)", "e = ReduceMax<keepdims = 0>(n)", "y = Slice(x, zero, e)"], "int64[1] zero = {0}"),
        (["n = Cast<to = 7>(x)", "f = ReduceMax<keepdims = 0>(n)", "y = Tile(x, n)"], ""),
        (["m = ReduceMax<keepdims = 0>(x)", "y = Range(zero, m, one)"], "float zero = {0}, float one = {1}"),
        (["i = NonZero(x)", "y = Cast<to = 1>(i)"], ""),
        (["b = Cast<to = 9>(x)", f"y = If(b) <then_branch = {BRANCH}, else_branch = {BRANCH}>"], ""),
    ],
    ids=["shape of values", "end of values", "tile by values", "range by values", "as many as are not 0", "branches"],
)
def test_sizes_that_values_decide_are_not(nodes: list[str], initializers: str) -> None:
    assert not has_steady_cost(graph(*nodes, initializers=initializers))


@pytest.mark.parametrize(
    ("opset", "nodes", "initializers"),
    [
        (9, ["y = Upsample(x, scales)"], "float[2] scales = {1, 2}"),
        (7, ["y = Upsample<scales = [1.0, 2.0]>(x)"], ""),
        (24, ["y = Swish(x)"], ""),
        (24, ["y = RMSNormalization(x, w)"], "float[4] w = {1, 1, 1, 1}"),
        (24, ["y = Attention(x, x, x)"], ""),
        (26, ["y = CumProd(x, axis)"], "int64 axis = {1}"),
        (26, ["b = BitCast<to = 6>(x)", "y = Cast<to = 1>(b)"], ""),
    ],
)
def test_operators_of_older_and_newer_sets_are_steady(opset: int, nodes: list[str], initializers: str) -> None:
    assert has_steady_cost(graph(*nodes, initializers=initializers, opset=opset))


@pytest.mark.parametrize(
    ("opset", "nodes"),
    [
        (9, ["s = ReduceMax<axes = [0]>(x)", "y = Upsample(x, s)"]),
        (24, ["n = Cast<to = 7>(x)", "y = Attention(x, x, x, , , , n)"]),
    ],
    ids=["enlarged by values", "attention of as many as a value says"],
)
def test_operators_of_older_and_newer_sets_whose_values_decide_are_not(opset: int, nodes: list[str]) -> None:
    assert not has_steady_cost(graph(*nodes, opset=opset))
