#!/usr/bin/env bash
# The largest and the smallest value that onnxruntime finds lose a NaN, unless it comes first.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, CPU.
# Behaviour: ReduceMax and ReduceMin give NaN where the first element is NaN, and the largest or smallest of the
#   others where the NaN stands anywhere else. MaxPool and GlobalMaxPool give NaN for one place of their nine and hide
#   it at the others. ArgMax does not find it, and TopK sorts around it, so that what it returns need not be sorted.
#   Max and Min of two tensors, ReduceSum, ReduceMean and ReduceL2 keep it.
# Expected: NaN wherever it stands, as NumPy, PyTorch and, for ReduceMax, onnx's reference evaluator have it.
# Output seen:
#   ReduceMax of 100 values, NaN at 0, 1, 50, 99: nan 1.0 1.0 1.0 (NumPy: nan nan nan nan)
#   ReduceMin of 100 values, NaN at 0, 1, 50, 99: nan 1.0 1.0 1.0 (NumPy: nan nan nan nan)
#   MaxPool 3x3, NaN at 0 to 8: 1.0 1.0 1.0 1.0 1.0 1.0 1.0 nan 1.0
#   ReduceSum of 100 values, NaN at 0, 1, 50, 99: nan nan nan nan (NumPy: nan nan nan nan)
# Why it matters: the largest absolute value is the usual guard against a broken image and the usual divisor that
#   brings one into range. torch.amax and torch.max are exported as ReduceMax, so what is NaN in PyTorch is an
#   ordinary number when served, and the guard lets the NaN beside it pass. Guard with a sum, or with IsNaN.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper


def session(operator, shape, result, **attributes):
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        operator,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def with_nan(shape, place):
    values = np.ones(shape, np.float32)
    values.flat[place] = np.nan
    return values


def outcomes(opened, shape, places):
    return [float(opened.run(None, {"x": with_nan(shape, place)})[0].item()) for place in places]


def words(values):
    return " ".join(str(value) for value in values)


places = (0, 1, 50, 99)
seen = {}
for operator, reference in (("ReduceMax", np.max), ("ReduceMin", np.min), ("ReduceSum", np.sum)):
    seen[operator] = outcomes(session(operator, [100], [], keepdims=0), [100], places)
    numpy = words(float(reference(with_nan([100], place))) for place in places)
    print(f"{operator} of 100 values, NaN at 0, 1, 50, 99: {words(seen[operator])} (NumPy: {numpy})")
pool = outcomes(session("MaxPool", [1, 1, 3, 3], [1, 1, 1, 1], kernel_shape=[3, 3]), [1, 1, 3, 3], range(9))
print(f"MaxPool 3x3, NaN at 0 to 8: {words(pool)}")
lost = all(not np.isnan(seen[operator]).all() for operator in ("ReduceMax", "ReduceMin")) and not np.isnan(pool).all()
if not lost or not np.isnan(seen["ReduceSum"]).all():
    raise SystemExit("changed: NaN is kept, or lost, by other operators")
PYTHON
