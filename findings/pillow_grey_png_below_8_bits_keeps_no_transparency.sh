#!/usr/bin/env bash
# Pillow draws the transparent pixels of a 2-bit or 4-bit grey PNG as opaque ones.
#
# Versions: Pillow 13.0.0, numpy 2.4.6; pypng 0.20220715.0 for comparison.
# Behaviour: a grey PNG may name one of its values as transparent. Pillow widens pixels of 2 and 4 bits to 8 (3 of 2
#   bits becomes 255), but leaves the named value as it is (3). convert("RGBA") and convert("LA") compare the two, so
#   no pixel is transparent unless the value is 0, and has_transparency_data says True all the same. Saved again, the
#   file has 8 bits and the old number, so that the transparency is lost for other readers, too. 8 bits are right. 1 bit
#   is read rightly, but saved with the value 255, which no pixel of 1 bit has.
# Expected: the pixels of the named value are transparent, as the PNG specification, which compares before it scales,
#   and pypng have it.
# Output seen:
#   1 bits, value 1: transparent in Pillow [1], in pypng [1], saved again by Pillow []
#   2 bits, value 3: transparent in Pillow [], in pypng [3], saved again by Pillow []
#   4 bits, value 0: transparent in Pillow [0], in pypng [0], saved again by Pillow [0]
#   4 bits, value 15: transparent in Pillow [], in pypng [15], saved again by Pillow []
#   8 bits, value 255: transparent in Pillow [255], in pypng [255], saved again by Pillow [255]
# Why it matters: optimisers reduce drawings, digits and masks of few greys to such files by themselves. Pictures of a
#   set that are put on a black ground before training keep a white one, and whether a picture does depends on what its
#   file was optimised to.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.4.6 pypng==0.20220715.0

"$folder/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
import png
from PIL import Image


def ramp(bits, transparent):
    """Return a PNG of one row with every value that so many bits hold, one of them transparent."""
    file = io.BytesIO()
    values = range(2**bits)
    png.Writer(len(values), 1, greyscale=True, bitdepth=bits, transparent=transparent).write(file, [values])
    return file.getvalue()


def by_pillow(data):
    alpha = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[0, :, 3]
    return np.flatnonzero(alpha == 0).tolist()


def by_pypng(data):
    _, _, rows, _ = png.Reader(bytes=data).asRGBA8()
    return np.flatnonzero(np.array(list(next(iter(rows))))[3::4] == 0).tolist()


def saved_again(data):
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, "PNG")
    return file.getvalue()


seen = {}
for bits, value in ((1, 1), (2, 3), (4, 0), (4, 15), (8, 255)):
    data = ramp(bits, value)
    pillow, pypng, again = by_pillow(data), by_pypng(data), by_pypng(saved_again(data))
    seen[bits, value] = pillow, pypng, again
    print(
        f"{bits} bits, value {value}: transparent in Pillow {pillow}, in pypng {pypng}, saved again by Pillow {again}"
    )
right = {key: ([key[1]],) * 3 for key in seen}
if seen != right | {(1, 1): ([1], [1], []), (2, 3): ([], [3], []), (4, 15): ([], [15], [])}:
    raise SystemExit("changed: the transparent value is read in another way")
PYTHON
