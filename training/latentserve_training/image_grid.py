"""Images in 8 bits, arranged in a grid and written as PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:  # imports, which draw without torch, need not wait for it
    from torch import Tensor


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Images in [0, 1] as uint8 of the same shape, rounded half to even."""
    return (255 * images.detach().float()).round().clamp(0, 255).byte().cpu().numpy()


def shown(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images [n, channels, height, width] as grey or RGB ones: of 2 channels the first, of others the first three."""
    channels = images.shape[1]
    return images[:, : 3 if channels >= 3 else 1]


def grid(images: NDArray[np.uint8], columns: int, scale: int = 2, gap: int = 2) -> Image.Image:
    """Images uint8 [n, 1 or 3, height, width] in rows of `columns`, `gap` pixels apart, enlarged `scale` times."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    canvas = np.full((rows * columns, height + gap, width + gap, channels), 32, np.uint8)
    canvas[:count, :height, :width] = images.transpose(0, 2, 3, 1)
    tiled = canvas.reshape(rows, columns, height + gap, width + gap, channels).transpose(0, 2, 1, 3, 4)
    sheet = tiled.reshape(rows * (height + gap), columns * (width + gap), channels)
    sheet = sheet[: sheet.shape[0] - gap, : sheet.shape[1] - gap]
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else np.ascontiguousarray(sheet))
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def write_png(picture: Image.Image, path: Path) -> None:
    """Write `picture` to `path`, creating its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(picture))


def png(picture: Image.Image) -> bytes:
    """The bytes of `picture` as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
