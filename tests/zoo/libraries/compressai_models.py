"""Transforms of compressai: a picture to what its entropy coder rounds, and back; GDN, which other exporters lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import shelf
import torch
from stand_ins import stand_in_for
from torch import nn
from torch_models import PACKAGES, Call, export, export_script, on_arrays, seeded, settle

stand_in_for("torch_geometric", "torchvision", "pytorch_msssim", "requests", "pandas", "tqdm")
from compressai.models import FactorizedPrior, FactorizedPriorReLU

_PICTURE = (3, 32, 32)


def _write(folder: Path, model: Any, exporter: Any) -> None:
    z, pixels = shelf.latents(24, 2, 2), shelf.pictures(*_PICTURE)
    settle([model.g_s[-1]], model.g_s, z, centre=0.5, spread=0.25)
    exporter(Call(model, model.g_a), [torch.rand(2, *_PICTURE)], folder / "encoder.onnx", ["x"], ["y"])
    exporter(Call(model, model.g_s), [torch.randn(2, 24, 2, 2)], folder / "decoder.onnx", ["y_hat"], ["x_hat"])
    shelf.write_autoencoder(folder, _DESCRIPTION, on_arrays(model.g_a), on_arrays(model.g_s), z, pixels)


def factorized_relu(folder: Path) -> None:
    _write(folder, seeded(FactorizedPriorReLU(N=16, M=24)), export)


def factorized(folder: Path) -> None:
    """With generalised divisive normalisation at the weights it begins with, whose form is its own."""
    model = FactorizedPrior(N=16, M=24)
    for seed, part in enumerate([*model.g_a, *model.g_s]):
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            seeded(part, seed)
    _write(folder, model.eval(), export_script)


_DESCRIPTION = """\
kind: autoencoder
latent_shape: [24, 2, 2]
clip: true
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  latent: y
family: compressai
"""

if __name__ == "__main__":
    shelf.main({"compressai-relu": factorized_relu, "compressai-gdn": factorized}, (*PACKAGES, "compressai"))
