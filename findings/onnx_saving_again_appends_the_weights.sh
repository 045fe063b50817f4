#!/usr/bin/env bash
# onnx appends a model's weights to those of the model that was saved under the same name before.
#
# Versions: onnx 1.23.2, numpy 2.4.6.
# Behaviour: onnx.save_model(..., save_as_external_data=True, location=...) replaces the model's file, and opens the
#   file beside it, which holds the weights, to write at its end. The new model points to its own part and is right. All
#   that was saved there earlier stays in the file, where nothing refers to it. There is a check, a FileExistsError,
#   but it looks for the location in the working folder and not beside the model, so only a job that works in the
#   model's folder meets it.
# Expected: a model that is saved is all that is in its files, as it is without external data.
# Output seen:
#   saved 1 times: model.data 40000 bytes, the model uses 40000
#   saved 2 times: model.data 80000 bytes, the model uses 40000
#   saved 3 times: model.data 120000 bytes, the model uses 40000
#   the weights of the first model are still there: True
#   from the model's folder: FileExistsError
# Why it matters: a job that exports the best model so far over the last one ships all of them: downloads and images
#   grow by a model each time, digests differ for equal models, and weights that were withdrawn, or trained on data
#   that was, are published with the new ones. Save into an empty folder, and rename that.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 numpy==2.4.6

FOLDER=$folder "$folder/venv/bin/python" - <<'PYTHON'
import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

path, data = Path(os.environ["FOLDER"]) / "model.onnx", Path(os.environ["FOLDER"]) / "model.data"


def model(value):
    weight = np.full((100, 100), value, np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 100])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 100])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


sizes = []
for times in (1, 2, 3):
    onnx.save_model(model(times), path, save_as_external_data=True, location=data.name)
    (weight,) = onnx.load(path).graph.initializer
    size, used = data.stat().st_size, len(weight.raw_data)
    sizes.append((size, used, float(numpy_helper.to_array(weight).max())))
    print(f"saved {times} times: {data.name} {size} bytes, the model uses {used}")
still = np.full(10_000, 1, np.float32).tobytes() in data.read_bytes()
print(f"the weights of the first model are still there: {still}")
os.chdir(path.parent)
try:
    onnx.save_model(model(4), path, save_as_external_data=True, location=data.name)
    guard = "saved"
except FileExistsError:
    guard = "FileExistsError"
print(f"from the model's folder: {guard}")
if sizes != [(40_000, 40_000, 1.0), (80_000, 40_000, 2.0), (120_000, 40_000, 3.0)] or not still or guard == "saved":
    raise SystemExit("changed: what was saved before is no longer kept")
PYTHON
