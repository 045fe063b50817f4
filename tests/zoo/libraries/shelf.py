"""A foreign model as its user has it, ONNX files and a description, with what its own framework computes.

A program of this folder writes one folder a model: decoder.onnx, perhaps encoder.onnx, model.yaml, and reference.npz
with `latents` [64, ...], row 0 of the noise scheme for seeds 0 to 63; `labels` [64]; `images`, the framework's own of
these, in its own range and layout; `decoded`, its images of the latents where noise makes them others; and of a model
with an encoder `pixels` [8, channels, height, width] in [0, 1], the framework's `mean` and `log_variance` of them, or
`codes`, and its `reconstruction`.

It runs in the library's environment, which has NumPy, onnx and nothing of this project.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.append(str(Path(__file__).parents[2] / "support"))
from plain_noise import noise_row

SEEDS = 64
PICTURES = 8
Array = np.ndarray[Any, Any]
Function = Callable[[Array], Any]
"""The framework's encoder or decoder, on NumPy's arrays."""


def latents(*shape: int, stream: int = 0) -> Array:
    """Row 0 of every seed [64, *shape], float32."""
    size = int(np.prod(shape))
    return np.stack([noise_row(seed, stream, 0, size).reshape(shape) for seed in range(SEEDS)])


def labels(count: int) -> Array:
    """A label for each seed, int64 [64]."""
    return np.arange(SEEDS) % count


def pictures(*shape: int) -> Array:
    """Pictures [8, channels, height, width] to encode: waves of many lengths, float32 in [0, 1]."""
    channels, height, width = shape
    drawn = np.random.default_rng(0)
    rows = []
    for _ in range(PICTURES):
        fy, fx, phase = (drawn.uniform(0, high, (channels, 1, 1)) for high in (0.6, 0.6, 6.3))
        wave = np.sin(np.arange(height)[:, None] * fy + np.arange(width) * fx + phase)
        rows.append(0.5 + 0.4 * wave + drawn.uniform(-0.1, 0.1, shape))
    return np.stack(rows).astype(np.float32)


def write(folder: Path, description: str, **reference: Array) -> None:
    """Write the description and what the framework computes."""
    (folder / "model.yaml").write_text(description)
    np.savez(folder / "reference.npz", allow_pickle=False, **reference)


def write_autoencoder(
    folder: Path, description: str, encode: Function, draw: Function, z: Array, pixels: Array
) -> None:
    """Write what an autoencoder draws of latents z, and what it makes of pictures.

    `encode` gives the latents of pictures or, of a VAE, their mean and log-variance.
    """
    found = encode(pixels)
    mean = found[0] if isinstance(found, tuple) else found
    spread = {"log_variance": found[1]} if isinstance(found, tuple) else {}
    others = {"reconstruction": draw(mean), **spread}
    write(folder, description, latents=z, images=draw(z), pixels=pixels, mean=mean, **others)


def write_quantised(folder: Path, description: str, encode: Function, draw: Function, pixels: Array) -> None:
    """Write the codes of pictures, and what a vector-quantised autoencoder draws of them."""
    codes = encode(pixels)
    write(folder, description, pixels=pixels, codes=codes, reconstruction=draw(codes))


def output_names(path: Path) -> list[str]:
    """The names that an exporter gave the outputs of an ONNX file."""
    return [value.name for value in onnx.load(path).graph.output]


def main(models: Mapping[str, Callable[[Path], None]], packages: Sequence[str]) -> None:
    """Write the models called in the arguments behind the folder, or all; one that fails leaves error.txt.

    The versions of `packages`, which make the files, are written last.
    """
    place, names = Path(sys.argv[1]), sys.argv[2:] or list(models)
    for name in names:
        folder = place / name
        folder.mkdir(parents=True)
        try:
            models[name](folder)
        except Exception:
            (folder / "error.txt").write_text(traceback.format_exc())
            print(f"{name}: failed", file=sys.stderr)
    (place / "versions.json").write_text(json.dumps({name: version(name) for name in packages}))
