#!/usr/bin/env bash
# onnxruntime takes inputs whose dimensions have one name and two sizes, and spreads the smaller over the larger.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, CPU.
# Behaviour: ONNX says that a dimension's name stands for one value in the whole graph. onnxruntime compares the rank of
#   an input and the dimensions that are numbers, and checks nothing of names. Four latents and one label, both
#   [batch], run without a warning: the sum of both spreads the label over all rows. Two labels for four latents do
#   fail, but only at some node inside the graph, with the words of its kernel.
# Expected: the refusal by the name of the input that a wrong size of a fixed dimension gets.
# Output seen:
#   4 latents, 4 labels: rows [0.0, 10.0, 20.0, 30.0]
#   4 latents, 1 labels: rows [20.0, 20.0, 20.0, 20.0]
#   1 latents, 4 labels: rows [0.0, 10.0, 20.0, 30.0]
#   4 latents, 2 labels: Fail at a node
#   4 latents of another width: InvalidArgument at the input
# Why it matters: a client that forgets to repeat a label gets a whole batch of one class instead of an error, and one
#   latent with four labels gets four pictures. A server that counts rows by one of the inputs hands rows of this answer
#   to the wrong callers, or too few. Compare the sizes of dimensions of one name before each run.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

classes = np.arange(4, dtype=np.float32)[:, None] * 10 * np.ones(3, np.float32)  # class i is [10 i, 10 i, 10 i]
graph = helper.make_graph(
    [helper.make_node("Gather", ["classes", "label"], ["of_class"]), helper.make_node("Add", ["z", "of_class"], ["y"])],
    "conditional",
    [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3]),
        helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
    ],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    [numpy_helper.from_array(classes, "classes")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
onnx.checker.check_model(model, full_check=True)
onnxruntime.set_default_logger_severity(4)  # a node that fails says so in the log as well
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(latents, labels, width=3):
    try:
        y = session.run(None, {"z": np.zeros((latents, width), np.float32), "label": np.array(labels, np.int64)})[0]
    except Exception as error:
        where = "node" if "node" in str(error) else "input" if "for input: z" in str(error) else "unknown place"
        return f"{type(error).__name__} at {'the' if where == 'input' else 'a'} {where}"
    return f"rows {y[:, 0].tolist()}"


seen = []
for latents, labels in ((4, [0, 1, 2, 3]), (4, [2]), (1, [0, 1, 2, 3]), (4, [0, 1])):
    seen.append(run(latents, labels))
    print(f"{latents} latents, {len(labels)} labels: {seen[-1]}")
seen.append(run(4, [0, 1, 2, 3], width=5))
print(f"4 latents of another width: {seen[-1]}")
ramp, same = "rows [0.0, 10.0, 20.0, 30.0]", "rows [20.0, 20.0, 20.0, 20.0]"
if seen != [ramp, same, ramp, "Fail at a node", "InvalidArgument at the input"]:
    raise SystemExit("changed: dimensions of one name are checked")
PYTHON
