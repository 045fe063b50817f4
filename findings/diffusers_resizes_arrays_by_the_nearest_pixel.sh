#!/usr/bin/env bash
# diffusers resizes a picture with Lanczos if it is a Pillow image, and takes the nearest pixels if it is an array.
#
# Versions: diffusers 0.42.1, torch 2.13.0, numpy 2.4.6, pillow 13.0.0.
# Behaviour: VaeImageProcessor has a parameter resample, "lanczos" by default, and its preprocess takes Pillow images,
#   NumPy arrays and tensors. The parameter holds for Pillow images. Arrays and tensors go through
#   torch.nn.functional.interpolate in its default mode, the nearest pixel, without antialiasing. It happens without
#   being asked for, too: every size that is not a multiple of 8 is resized down to one.
# Expected: one picture, one result, whatever it is held in; at least the filter that was named.
# Output seen:
#   256x256 to 64x64: Pillow image and array differ by 22.1 of 255 levels in the mean, 84 at most
#   260x260, no size given, becomes 256x256: by 7.7 in the mean, 51 at most
#   array and tensor: by 0 at most
#   no resize (256x256): by 0 at most
# Why it matters: a VAE encodes other latents for the same photo, depending on whether a service passes on the file's
#   image or decoded bytes: aliased where a picture is made smaller, and shifted. Parity with the training pipeline,
#   which mostly reads Pillow images, is lost without a word. Resize before, to a multiple of 8.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 numpy==2.4.6 pillow==13.0.0

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

processor = VaeImageProcessor(vae_scale_factor=8)
small = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def compare(side, height=None, width=None):
    """Return the new side; by how many levels image and array differ, in the mean and at most; array and tensor."""
    image = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
    array = np.asarray(image, np.float32)[None] / 255  # [0, 1], [1, height, width, 3], as the processor wants it
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2)
    by_pillow, by_array, by_tensor = (processor.preprocess(form, height, width) for form in (image, array, tensor))
    levels = (by_pillow - by_array).abs() * 127.5  # the processor answers in [-1, 1]
    return by_array.shape[-1], levels.mean().item(), levels.max().item(), (by_array - by_tensor).abs().max().item()


_, mean, most, tensors = compare(256, 64, 64)
print(f"256x256 to 64x64: Pillow image and array differ by {mean:.1f} of 255 levels in the mean, {most:.0f} at most")
side, odd, odd_most, _ = compare(260)
print(f"260x260, no size given, becomes {side}x{side}: by {odd:.1f} in the mean, {odd_most:.0f} at most")
print(f"array and tensor: by {tensors:.0f} at most")
_, _, same, _ = compare(256)
print(f"no resize (256x256): by {same:.0f} at most")
if mean < 2 or odd < 1 or side != 256 or tensors > 0 or same > 0.01:
    raise SystemExit("changed: images and arrays are resized in another way")
PYTHON
