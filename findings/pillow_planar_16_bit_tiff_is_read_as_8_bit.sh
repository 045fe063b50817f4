#!/usr/bin/env bash
# Of a 16-bit RGB TIFF with a plane for every channel, Pillow takes each byte for a pixel, and leaves out the lower half.
#
# Versions: Pillow 13.0.0, tifffile 2026.3.3, numpy 2.4.6.
# Behaviour: Pillow opens 16-bit RGB TIFF files as mode RGB, 8 bits a channel. Where the channels of a pixel lie side by
#   side (planar configuration 1) it keeps the high byte of every value. Where every channel has a plane of its own
#   (configuration 2) the planes are read as if they were of 8 bits: the two bytes of a value become two pixels, so that
#   the picture has the right size and holds the upper half of the file's, drawn out to twice its width, with the noise
#   of the low bytes in every other column. No error and no warning, in either byte order.
# Expected: the high byte of every value, as for the other configuration, or an error.
# Output seen:
#   side by side, little-endian: 100 % of the values are the high bytes
#   planes, little-endian: 0 % of the values are the high bytes; they are the first half of the plane's bytes: True
#   side by side, big-endian: 100 % of the values are the high bytes
#   planes, big-endian: 0 % of the values are the high bytes; they are the first half of the plane's bytes: True
# Why it matters: microscopes and satellites write planes of 16 bits. A model that is trained on a folder of them through
#   Pillow learns from pictures that are half noise, and nothing says so. Look at tags 258 (bits) and 284 (planar
#   configuration) before the pixels and refuse such files, or read them with tifffile.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
import tifffile
from PIL import Image

pixels = np.random.default_rng(0).integers(0, 65536, (32, 48, 3)).astype(np.uint16)


def read(planes, order):
    file = io.BytesIO()
    stored = pixels.transpose(2, 0, 1) if planes else pixels
    tifffile.imwrite(file, stored, photometric="rgb", planarconfig="separate" if planes else "contig", byteorder=order)
    file.seek(0)
    assert np.array_equal(tifffile.imread(file), stored)
    file.seek(0)
    with Image.open(file) as image:
        return np.asarray(image)


as_seen = True
for order, name in (("<", "little-endian"), (">", "big-endian")):
    right = np.mean(read(False, order) == pixels >> 8)
    print(f"side by side, {name}: {right:.0%} of the values are the high bytes".replace("%", " %"))
    found = read(True, order)
    share = np.mean(found == pixels >> 8)
    half = all(
        found[..., channel].tobytes() == pixels[..., channel].astype(f"{order}u2").tobytes()[: 32 * 48]
        for channel in range(3)
    )
    told = f"planes, {name}: {share:.0%} of the values are the high bytes".replace("%", " %")
    print(f"{told}; they are the first half of the plane's bytes: {half}")
    as_seen = as_seen and right == 1.0 and half
if not as_seen:
    raise SystemExit("changed: Pillow reads these files otherwise")
PYTHON
