#!/usr/bin/env bash
# Sessions that share onnxruntime's global threads cannot be told not to spin, and pay twice the processor time.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, CPU, Python's interface.
# Behaviour: session.intra_op.allow_spinning=0 lets the threads of a session sleep while they have nothing to do. A
#   session with use_per_session_threads=False, which runs on the threads of set_global_thread_pool_sizes, takes the
#   option without an error, and its threads spin all the same; session.force_spinning_stop=1 ends that with each run
#   and not within it. Of C's interface SetGlobalSpinControl would turn it off, and Python has no such function.
# Expected: the option does what it says, or an error says that it has no effect on shared threads.
# Output seen, on a machine of two processors (processor time of 300 runs, 1 ms apart, against own threads that sleep):
#   own threads, allow_spinning=0: 1.0
#   global threads, allow_spinning=0: 2.5
#   global threads, allow_spinning=0, force_spinning_stop=1: 2.3
# Why it matters: a process with many sessions has threads for each one, unless they share the global ones. A server
#   that turned spinning off, to leave the processors to what serves the calls, gets it back with them.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
[ "$(nproc)" -ge 2 ] || { echo "skipped: needs two processors"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6

cat > "$folder/spent.py" <<'PYTHON'
import sys
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

shared, *settings = sys.argv[1:]
weights = [numpy_helper.from_array(np.full((256, 256), 1 / 256, np.float32), f"w{layer}") for layer in range(6)]
nodes = [helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"]) for layer in range(6)]
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 256]) for name in ("x0", "x6")]
graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
checker.check_model(model, full_check=True)

options = onnxruntime.SessionOptions()
if shared == "shared":
    onnxruntime.set_global_thread_pool_sizes(2, 1)
    options.use_per_session_threads = False
else:
    options.intra_op_num_threads = 2
for setting in settings:
    options.add_session_config_entry(*setting.split("="))
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
rows = {"x0": np.ones((64, 256), np.float32)}
began = time.process_time()
for _ in range(300):
    session.run(None, rows)
    time.sleep(0.001)
print(time.process_time() - began)
PYTHON

asleep="session.intra_op.allow_spinning=0"
for round in 1 2 3; do
    for way in "own $asleep" "shared $asleep" "shared $asleep session.force_spinning_stop=1"; do
        # shellcheck disable=SC2086
        echo "$("$folder/venv/bin/python" "$folder/spent.py" $way)" "$way"
    done
done > "$folder/spent"
"$folder/venv/bin/python" - "$folder/spent" <<'PYTHON'
import statistics
import sys

spent = {}
for line in open(sys.argv[1]):
    seconds, way = line.strip().split(" ", 1)
    spent.setdefault(way, []).append(float(seconds))
own, shared, stopped = (statistics.median(values) for values in spent.values())
print("own threads, allow_spinning=0: 1.0")
print(f"global threads, allow_spinning=0: {shared / own:.1f}")
print(f"global threads, allow_spinning=0, force_spinning_stop=1: {stopped / own:.1f}")
if min(shared, stopped) < 1.3 * own:
    raise SystemExit("changed: the global threads do not spin")
PYTHON
