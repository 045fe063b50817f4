#!/usr/bin/env bash
# torch.onnx.export takes an addition of 1e-8 or less for an addition of nothing, and leaves it out.
#
# Versions: torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.31.1, numpy 2.4.6, CPU.
# Behaviour: x / (|x| + 1e-8) is exported as x / |x|, log(x + 1e-9) as log(x), and so with every smaller constant: the
#   exporter's optimisation, which is on by default, compares constants with 0 within a tolerance of 1e-8. The graph
#   gives NaN and -inf at 0, where PyTorch gives 0 and -20.7. No error, no warning, and the full checker is content. With
#   1e-7 the addition stays, and with optimize=False it always does.
# Expected: an addition that changes the result in float32 is kept.
# Output seen:
#   x / (|x| + 1e-07) at 0: PyTorch 0.0, exported 0.0, not optimised 0.0
#   x / (|x| + 1e-08) at 0: PyTorch 0.0, exported nan, not optimised 0.0
#   x / (|x| + 1e-15) at 0: PyTorch 0.0, exported nan, not optimised 0.0
#   log(x + 1e-09) at 0: PyTorch -20.723, exported -inf, not optimised -20.723
# Why it matters: such constants guard a denominator or a logarithm, and act only where all else is 0, which random inputs
#   may never show. The linear attention of diffusers' AutoencoderDC (0.42.1) has 1e-15: where no query meets a key, its
#   exported encoder gives NaN, and with seeded weights it does so for most latents of an ordinary picture. So such a
#   network has to be exported with optimize=False, and compared.
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


class Function(torch.nn.Module):
    """A function with a small constant, as a module."""

    def __init__(self, function, epsilon):
        super().__init__()
        self.function, self.epsilon = function, epsilon

    def forward(self, x):
        return self.function(x, self.epsilon)


def exported(module, x, optimize):
    """Return the first value that the exported module gives in onnxruntime."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        model = torch.onnx.export(module, (x,), dynamo=True, optimize=optimize).model_proto
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return str(round(float(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0][0]), 3))


def guarded(x, epsilon):
    return x / (x.abs() + epsilon)


def logarithm(x, epsilon):
    return torch.log(x + epsilon)


zeros, seen = torch.zeros(3), []
for name, function, epsilon in (
    ("x / (|x| + {})", guarded, 1e-7),
    ("x / (|x| + {})", guarded, 1e-8),
    ("x / (|x| + {})", guarded, 1e-15),
    ("log(x + {})", logarithm, 1e-9),
):
    module = Function(function, epsilon)
    own = str(round(module(zeros)[0].item(), 3))
    seen.append((own, exported(module, zeros, True), exported(module, zeros, False)))
    place = name.format(f"{epsilon:.0e}")
    print(f"{place} at 0: PyTorch {seen[-1][0]}, exported {seen[-1][1]}, not optimised {seen[-1][2]}")
expected = [("0.0",) * 3, ("0.0", "nan", "0.0"), ("0.0", "nan", "0.0"), ("-20.723", "-inf", "-20.723")]
if seen != expected:
    raise SystemExit("changed: the small constants are exported in another way")
PYTHON
