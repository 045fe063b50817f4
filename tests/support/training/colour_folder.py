"""A folder of small colour pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def colour_folder(folder: Path, count: int = 60, side: int = 8) -> Path:
    """RGB files of `side` x `side` pixels: a square of one colour, somewhere on another colour."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        pixels = np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (side, side, 3)).copy()
        top, left = rng.integers(0, side // 2, 2)
        pixels[top : top + side // 2, left : left + side // 2] = rng.integers(0, 256, 3, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder
