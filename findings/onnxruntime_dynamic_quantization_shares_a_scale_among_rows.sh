#!/usr/bin/env bash
# In a dynamically quantised model, a row's result depends on the other rows of its batch, and not in the last bits.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, CPU.
# Behaviour: onnxruntime.quantization.quantize_dynamic puts a DynamicQuantizeLinear before each MatMul. It takes one
#   scale from the smallest and the largest value of the whole tensor, all rows together. Ordinary company moves a row
#   by half of its quantisation error, and one row with a large value takes the resolution away from all others.
# Expected: a row's own scale for each row. The documentation says that the scale of the activations is computed on
#   the fly, not that it is shared.
# Output seen:
#   float32 result of the row: standard deviation 7.24
#   alone: off by 0.292 at most
#   with 15 ordinary rows: off by 0.289, and by 0.148 from the same row alone
#   with one row that holds a 100: off by 2.838
# Why it matters: a server that puts the rows of several callers into one batch lets one caller spoil the answers of
#   the others, and the same request gives another answer at every load. A parity check that runs one row, or rows of
#   one kind, passes. Static quantisation, whose scales are constants, has neither.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6

FOLDER=$folder "$folder/venv/bin/python" - <<'PYTHON'
import logging
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

logging.disable(logging.WARNING)  # advice about a step before quantisation
random = np.random.default_rng(0)
weight = random.standard_normal((64, 32), dtype=np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "weight"], ["y"])],
    "layer",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])],
    [numpy_helper.from_array(weight, "weight")],
)
folder = Path(os.environ["FOLDER"])
onnx.save(
    helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), folder / "float32.onnx"
)
quantize_dynamic(folder / "float32.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8, reduce_range=True)
session = onnxruntime.InferenceSession(folder / "int8.onnx", providers=["CPUExecutionProvider"])

row = random.standard_normal((1, 64), dtype=np.float32)
ordinary = random.standard_normal((15, 64), dtype=np.float32)
outlier = np.zeros((1, 64), np.float32)
outlier[0, 0] = 100


def first(*company):
    return session.run(None, {"x": np.concatenate([row, *company])})[0][0]


right = (row @ weight)[0]
alone, together, spoilt = first(), first(ordinary), first(outlier)


def largest(difference):
    return float(np.abs(difference).max())


print(f"float32 result of the row: standard deviation {right.std():.2f}")
print(f"alone: off by {largest(alone - right):.3f} at most")
print(
    f"with 15 ordinary rows: off by {largest(together - right):.3f}, "
    f"and by {largest(together - alone):.3f} from the same row alone"
)
print(f"with one row that holds a 100: off by {largest(spoilt - right):.3f}")
if largest(spoilt - right) < 5 * largest(alone - right) or largest(together - alone) < 0.01:
    raise SystemExit("changed: a row no longer depends on its company")
PYTHON
