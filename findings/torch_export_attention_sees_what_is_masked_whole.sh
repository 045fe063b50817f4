#!/usr/bin/env bash
# Exported by PyTorch, attention whose mask allows nothing returns the mean of all that it must not see.
#
# Versions: torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.31.1, numpy 2.4.6, CPU.
# Behaviour: scaled_dot_product_attention with a boolean mask gives zeros where a row's mask is False everywhere.
#   torch.onnx.export at its default opset, 20, writes the mask as the lowest float32 and not as minus infinity, so the
#   softmax of such a row is uniform, and the result the mean of the masked values. The graph even has an IsNaN that is
#   to make it zeros, which never finds one. Rows that may see something agree. With opset_version=23, which has an
#   Attention operator, all agree. No warning.
# Expected: zeros, as in PyTorch.
# Output seen:
#   PyTorch: 3 of 5 allowed [ 0.04 -0.58  0.41  0.3 ], none allowed [0. 0. 0. 0.]
#   opset 20: 3 of 5 allowed [ 0.04 -0.58  0.41  0.3 ], none allowed [ 0.01  0.63 -0.23  0.09]
#   mean of the masked values: [ 0.01  0.63 -0.23  0.09]
#   opset 23: 3 of 5 allowed [ 0.04 -0.58  0.41  0.3 ], none allowed [0. 0. 0. 0.]
# Why it matters: a mask that allows nothing is how a row without a prompt, without labels or without neighbours goes
#   through cross attention in a batch. Its padding then draws into the picture, and the unconditional half of
#   classifier-free guidance is another model than in training. Parity checks with a mask for every row pass.
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

import numpy as np
import onnxruntime
import torch

warnings.filterwarnings("ignore")  # about the exporter's own dependencies
logging.disable(logging.WARNING)


class Attention(torch.nn.Module):
    def forward(self, query, values, mask):
        return torch.nn.functional.scaled_dot_product_attention(query, values, values, attn_mask=mask)


def exported(arguments, **options):
    """Return what onnxruntime makes of the exported attention, and its opset."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        model = torch.onnx.export(Attention().eval(), arguments, dynamo=True, **options).model_proto
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    feeds = {name: value.numpy() for name, value in zip(names, arguments, strict=True)}
    return session.run(None, feeds)[0], model.opset_import[0].version


torch.manual_seed(0)
np.set_printoptions(precision=2, suppress=True)
query, values = torch.randn(2, 1, 3, 4), torch.randn(2, 1, 5, 4)
mask = torch.zeros(2, 1, 3, 5, dtype=torch.bool)
mask[0, ..., :3] = True  # the first row may see three of five values, the second none
arguments = query, values, mask


def show(words, result):
    print(f"{words}: 3 of 5 allowed {result[0, 0, 0]}, none allowed {result[1, 0, 0]}")


right = Attention()(*arguments).numpy()
show("PyTorch", right)
default, opset = exported(arguments)
show(f"opset {opset}", default)
mean = values[1, 0].numpy().mean(axis=0)
print(f"mean of the masked values: {mean}")
newer, _ = exported(arguments, opset_version=23)
show("opset 23", newer)
same = [np.allclose(first, second, atol=1e-5) for first, second in ((default[0], right[0]), (newer, right))]
leaks = np.allclose(default[1, 0], mean, atol=1e-5) and not right[1].any()
if not all(same) or not leaks:
    raise SystemExit("changed: what is masked whole is exported in another way")
PYTHON
