"""Generators of torch-mimicry: SNGAN, SAGAN with attention and spectral norms, and cGAN-PD with labels."""

from __future__ import annotations

from pathlib import Path

import shelf
import torch
from stand_ins import stand_in_for
from torch_models import PACKAGES, export, run, seeded, write_labelled

stand_in_for("torch._six", "torch.utils.tensorboard", "torchvision", "sklearn", "skimage", "tensorflow", "requests")
from torch_mimicry.nets.cgan_pd.cgan_pd_32 import CGANPDGenerator32
from torch_mimicry.nets.sagan.sagan_32 import SAGANGenerator32
from torch_mimicry.nets.sngan.sngan_32 import SNGANGenerator32


def sngan(folder: Path) -> None:
    model = seeded(SNGANGenerator32(nz=128, ngf=32))
    export(model, [torch.randn(2, 128)], folder / "decoder.onnx", ["x"], ["image"])
    z = shelf.latents(128)
    shelf.write(folder, _SNGAN, latents=z, images=run(model, z))


def sagan(folder: Path) -> None:
    write_labelled(folder, _LABELLED, seeded(SAGANGenerator32(num_classes=10, nz=128, ngf=32)), 128, ["x", "y"])


def cgan_pd(folder: Path) -> None:
    write_labelled(folder, _LABELLED, seeded(CGANPDGenerator32(num_classes=10, nz=128, ngf=32)), 128, ["x", "y"])


_SNGAN = """\
kind: gan
latent_dim: 128
image_range: [-1, 1]
decoder:
  file: decoder.onnx
family: torch-mimicry SNGAN
"""
_LABELLED = """\
kind: gan
latent_dim: 128
image_range: [-1, 1]
labels: 10
decoder:
  file: decoder.onnx
  latent: x
  label: y
family: torch-mimicry
"""

if __name__ == "__main__":
    shelf.main(
        {"mimicry-sngan": sngan, "mimicry-sagan": sagan, "mimicry-cgan-pd": cgan_pd}, (*PACKAGES, "torch-mimicry")
    )
