#!/usr/bin/env bash
# torchmetrics computes the error of uint8 images modulo 256.
#
# Versions: torchmetrics 1.9.0, torch 2.13.0.
# Behaviour: MeanSquaredError and MeanAbsoluteError subtract, and square, in the dtype of what they get. For uint8
#   images that wraps: 10 - 11 is 255, and 16 squared is 0. No error and no warning; the result is a plausible number.
#   PeakSignalNoiseRatio converts the same tensors and is right; StructuralSimilarityIndexMeasure raises a
#   RuntimeError.
# Expected: the values of the float tensors, or an error, as from SSIM.
# Output seen:
#   images that differ by 1 everywhere, half of them upwards: MAE 128.0 instead of 1.0
#   images that differ by 16 everywhere: MSE 0.0 instead of 256.0
#   noisy images: MSE 92.7 instead of 590.9, PSNR 20.42 of both
#   SSIM of uint8: RuntimeError
# Why it matters: decoded files and replies of an image server are uint8. A reconstruction error over them is nonsense
#   that looks like a number, and small where it is large: of two models the worse one may win. Call float() before.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torchmetrics==1.9.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torchmetrics import MeanAbsoluteError, MeanSquaredError
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

torch.manual_seed(0)


def both(metric, first, second):
    """Return the metric of two uint8 tensors, and of the same values in float32."""
    return round(metric(first, second).item(), 2), round(metric(first.float(), second.float()).item(), 2)


grey = torch.full((4, 1, 32, 32), 100, dtype=torch.uint8)
step = grey + torch.tensor([1, 255], dtype=torch.uint8).repeat(16)  # 255 is -1: half is one brighter, half one darker
mae = both(MeanAbsoluteError(), grey, step)
mse = both(MeanSquaredError(), grey, grey + 16)
image = torch.rand(4, 1, 32, 32)
noisy = (image + 0.1 * torch.randn_like(image)).clamp(0, 1)
image, noisy = (image * 255).to(torch.uint8), (noisy * 255).to(torch.uint8)
error = both(MeanSquaredError(), noisy, image)
ratio = both(PeakSignalNoiseRatio(data_range=255.0), noisy, image)
try:
    similarity = str(StructuralSimilarityIndexMeasure(data_range=255.0)(noisy, image))
except RuntimeError:
    similarity = "RuntimeError"
print(f"images that differ by 1 everywhere, half of them upwards: MAE {mae[0]} instead of {mae[1]}")
print(f"images that differ by 16 everywhere: MSE {mse[0]} instead of {mse[1]}")
print(f"noisy images: MSE {error[0]:.1f} instead of {error[1]:.1f}, PSNR {ratio[0]} of both")
print(f"SSIM of uint8: {similarity}")
if mae != (128.0, 1.0) or mse != (0.0, 256.0) or ratio[0] != ratio[1] or similarity != "RuntimeError":
    raise SystemExit("changed: uint8 images are measured in another way")
PYTHON
