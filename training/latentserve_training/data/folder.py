"""A folder of image files, with a subfolder a class where there are classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from latentserve_training.data.dataset import Split
from latentserve_training.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
_GREY_MODES = frozenset({"1", "L", "LA"})
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


def read_folder(root: Path, size: int | None) -> Split:
    """Every image file under `root`, in the order of their paths: uint8 [n, 1 or 3, height, width].

    Grey when every file is grey, else RGB. Transparent pixels lie on black; photos are turned as their EXIF says. With
    `size`, resized to size x size (Lanczos); without, all files must share one size. When every file lies in a
    subfolder, the first folder on its path is its class, numbered in sorted order.

    Raises:
        DataError: `root` is no folder or holds no images, a file cannot be decoded, or the sizes differ.
    """
    if not root.is_dir():
        raise DataError(f"data.root {root} is not a folder")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"data.root {root} holds no image files; known are {', '.join(sorted(SUFFIXES))}")
    images = [_decode(path, size) for path in paths]
    _require_one_size(paths, images)
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    pixels = np.empty((len(images), len(mode), images[0].height, images[0].width), np.uint8)
    for row, image in zip(pixels, images, strict=True):  # one array from the first: of large data there is no second
        row[:] = np.atleast_3d(np.asarray(image.convert(mode))).transpose(2, 0, 1)
    return Split(pixels, *_labels(root, paths))


def _decode(path: Path, size: int | None) -> Image.Image:
    """The file as a grey or RGB image."""
    try:
        with Image.open(path) as file:
            if file.mode not in _GREY_MODES | _COLOUR_MODES:
                raise DataError(f"{path}: pixels are of kind {file.mode!r}; allowed are 8 bits a channel")
            image = _on_black(ImageOps.exif_transpose(file)).convert("L" if file.mode in _GREY_MODES else "RGB")
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders let SyntaxError, struct.error and more escape from damaged files
        raise DataError(f"{path}: cannot be decoded: {error}") from error
    return image if size is None else image.resize((size, size), Image.Resampling.LANCZOS)


def _on_black(image: Image.Image) -> Image.Image:
    """The image without its transparency: a pixel nobody sees may hide any colour."""
    if not image.has_transparency_data:
        return image
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "black"), seen)


def _require_one_size(paths: list[Path], images: list[Image.Image]) -> None:
    width, height = images[0].size
    for path, image in zip(paths, images, strict=True):
        if image.size != (width, height):
            raise DataError(
                f"{path} is {image.width}x{image.height}, but {paths[0]} is {width}x{height}; data.size resizes all"
            )


def _labels(root: Path, paths: list[Path]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    places = [path.relative_to(root).parts for path in paths]
    if any(len(parts) == 1 for parts in places):
        return None, ()
    classes = sorted({parts[0] for parts in places})
    return np.array([classes.index(parts[0]) for parts in places], dtype=np.int64), tuple(classes)
