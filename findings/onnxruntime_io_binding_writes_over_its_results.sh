#!/usr/bin/env bash
# A second run of an IO binding writes over the result of the first one.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, CPU.
# Behaviour: bind_output(name), without a buffer, is the form in which onnxruntime allocates the output. It does so
#   once, in the first run, and keeps it bound. get_outputs()[0].numpy() is a view of it, so the array that a caller
#   was given changes when the binding runs again, and a run with another batch size fails with a RuntimeError, since
#   what is bound has the shape of the first. copy_outputs_to_cpu() copies; clear_binding_outputs() and bind_output()
#   before each run give fresh memory; session.run has neither trait.
# Expected: what onnxruntime allocates for a result belongs to that result, as the outputs of session.run do.
# Output seen:
#   the first result after the first run: [2. 2.], after the second: [10. 10.]
#   its copy by copy_outputs_to_cpu: [2. 2.]
#   three rows after two: RuntimeError
#   three rows after clear_binding_outputs and bind_output: (3, 2), the result before that still [10. 10.]
# Why it matters: a server that keeps one binding a session and hands the arrays on (to a thread that encodes images,
#   say) answers one caller with another caller's pictures, as soon as the next batch is faster than the hand-over.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

graph = helper.make_graph(
    [helper.make_node("Add", ["x", "x"], ["y"])],
    "double",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
options = onnxruntime.SessionOptions()
options.log_severity_level = 4  # the refusal below is printed here
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
binding = session.io_binding()
binding.bind_output("y")


def run(rows, value):
    binding.bind_cpu_input("x", np.full((rows, 2), value, np.float32))
    session.run_with_iobinding(binding)
    return binding.get_outputs()[0].numpy()


first = run(2, 1)
copy, before = binding.copy_outputs_to_cpu()[0], str(first[0])
second = run(2, 5)
print(f"the first result after the first run: {before}, after the second: {first[0]}")
print(f"its copy by copy_outputs_to_cpu: {copy[0]}")
try:
    other = str(run(3, 7).shape)
except RuntimeError:
    other = "RuntimeError"
print(f"three rows after two: {other}")
binding.clear_binding_outputs()
binding.bind_output("y")
fresh = run(3, 7)
print(
    f"three rows after clear_binding_outputs and bind_output: {fresh.shape}, "
    f"the result before that still {second[0]}"
)
if not (first[0] == 10).all() or not (copy == 2).all() or other != "RuntimeError" or not (second == 10).all():
    raise SystemExit("changed: the results of a binding are no longer written over")
PYTHON
