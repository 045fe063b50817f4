#!/usr/bin/env bash
# torch.onnx.export drops the divisor_override of an average pooling.
#
# Versions: torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.31.1, numpy 2.4.6, CPU.
# Behaviour: avg_pool2d(x, 2, divisor_override=1), a sum over windows, is exported as an AveragePool, which has no such
#   attribute: the graph divides by 4. So do AvgPool2d and AvgPool3d with the argument, whatever its value. No error
#   and no warning, and the full checker is content.
# Expected: a Mul behind the AveragePool, or a refusal, as the exporter refuses what it cannot translate.
# Output seen:
#   avg_pool2d, divisor_override=None: PyTorch 2.5, exported 2.5
#   avg_pool2d, divisor_override=1: PyTorch 10.0, exported 2.5
#   avg_pool2d, divisor_override=3: PyTorch 3.333, exported 2.5
#   avg_pool3d, divisor_override=1: PyTorch 36.0, exported 4.5
# Why it matters: the argument is a way to sum over windows, for a local energy or a count of valid pixels, and what is
#   behind it is off by a factor, which a normalisation may hide in part. Multiply the plain pooling by the window's
#   size instead.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import logging
import os
import warnings

import onnx
import onnxruntime
import torch

warnings.filterwarnings("ignore")  # about the exporter's own dependencies
logging.disable(logging.WARNING)


def both(module, x):
    """Return the first value that the module gives in PyTorch, and exported in onnxruntime."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        model = torch.onnx.export(module.eval(), (x,), dynamo=True).model_proto
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    return round(module(x).ravel()[0].item(), 3), round(float(result.ravel()[0]), 3)


square = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
cube = torch.arange(1.0, 9.0).reshape(1, 1, 2, 2, 2)
seen = []
for divisor in (None, 1, 3):
    seen.append(both(torch.nn.AvgPool2d(2, divisor_override=divisor), square))
    print(f"avg_pool2d, divisor_override={divisor}: PyTorch {seen[-1][0]}, exported {seen[-1][1]}")
seen.append(both(torch.nn.AvgPool3d(2, divisor_override=1), cube))
print(f"avg_pool3d, divisor_override=1: PyTorch {seen[-1][0]}, exported {seen[-1][1]}")
if seen != [(2.5, 2.5), (10.0, 2.5), (3.333, 2.5), (36.0, 4.5)]:
    raise SystemExit("changed: the divisor is exported in another way")
PYTHON
