#!/usr/bin/env bash
# onnxruntime takes a big-endian array and reads its bytes as little-endian ones.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, safetensors 0.8.0, little-endian processors.
# Behaviour: an array of dtype >f4 is a float32 array to NumPy, which swaps its bytes whenever it computes.
#   InferenceSession.run and OrtValue.ortvalue_from_numpy check only that it is float32 and take the bytes as they
#   lie: 1.0 is read as 4.6e-41, and an int64 label of 1 as 72057594037927936. No error and no warning.
# Expected: the same numbers, or a refusal. safetensors swaps; onnx.numpy_helper.from_array and torch.from_numpy
#   refuse the same array with a message about its dtype or byte order.
# Output seen:
#   NumPy: [0.   0.25 0.5  1.  ] mean 0.4375, dtype >f4
#   session.run: [0.0000e+00 4.6005e-41 8.8282e-44 4.6006e-41]
#   OrtValue: [0.0000e+00 4.6005e-41 8.8282e-44 4.6006e-41]
#   safetensors: [0.   0.25 0.5  1.  ]
#   session.run after astype("=f4"): [0.   0.25 0.5  1.  ]
# Why it matters: IDX (MNIST's format), FITS and NetCDF 3 store everything wider than a byte in this order; astropy,
#   SciPy and numpy.load hand such arrays on as they lie, and every look at one shows the right numbers. The model
#   gets an image of almost zeros, and answers.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
if [[ $(python3 -c 'import sys; print(sys.byteorder)') != little ]]; then
    echo "skipped: needs a little-endian processor"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6 safetensors==0.8.0

"$folder/venv/bin/python" - <<'PYTHON'
import struct

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from safetensors import numpy as tensors

# An IDX file of four float32: magic number 0x0D (float) and 0x01 (one dimension), the dimension, the values.
file = struct.pack(">BBBBI4f", 0, 0, 0x0D, 1, 4, 0, 0.25, 0.5, 1)
pixels = np.frombuffer(file, dtype=">f4", offset=8)
print(f"NumPy: {pixels} mean {pixels.mean()}, dtype {pixels.dtype}")

graph = helper.make_graph(
    [helper.make_node("Identity", ["x"], ["y"])],
    "identity",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
run = session.run(None, {"x": pixels})[0]
value = onnxruntime.OrtValue.ortvalue_from_numpy(pixels).numpy()
kept = tensors.load(tensors.save({"x": pixels}))["x"]
native = session.run(None, {"x": pixels.astype("=f4")})[0]
print(f"session.run: {run}")
print(f"OrtValue: {value}")
print(f"safetensors: {kept}")
print(f'session.run after astype("=f4"): {native}')
swapped = pixels.view("<f4")
if any(not np.array_equal(*pair) for pair in ((run, swapped), (value, swapped), (kept, pixels), (native, pixels))):
    raise SystemExit("changed: the order of the bytes is read in another way")
PYTHON
