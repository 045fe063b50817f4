"""Generators of torchgan: DCGAN, a conditional one, ACGAN, and InfoGAN with its codes beside the latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import shelf
import torch
from stand_ins import stand_in_for
from torch_models import PACKAGES, Call, Tensor, export, run, seeded, write_labelled

stand_in_for("torchvision", "tensorboardX", "visdom", "fastprogress")
from torchgan.models import ACGANGenerator, ConditionalGANGenerator, DCGANGenerator, InfoGANGenerator

_SMALL: dict[str, Any] = {"out_size": 32, "step_channels": 16}


def dcgan(folder: Path) -> None:
    model = seeded(DCGANGenerator(encoding_dims=100, **_SMALL))
    export(model, [torch.randn(2, 100)], folder / "decoder.onnx", ["x"], ["image"])
    z = shelf.latents(100)
    shelf.write(folder, _DCGAN, latents=z, images=run(model, z))


def conditional(folder: Path) -> None:
    model = seeded(ConditionalGANGenerator(num_classes=10, encoding_dims=64, out_channels=1, **_SMALL))
    write_labelled(folder, _CONDITIONAL, model, 64, ["z", "y"])


def acgan(folder: Path) -> None:
    model = seeded(ACGANGenerator(num_classes=10, encoding_dims=64, out_channels=3, **_SMALL))
    write_labelled(folder, _CONDITIONAL, model, 64, ["z", "y"])


def infogan(folder: Path) -> None:
    """Its discrete code is a label as a row; its continuous code is drawn as the latents are, in one row with them."""
    model = seeded(InfoGANGenerator(dim_dis=10, dim_cont=2, encoding_dims=62, **_SMALL))

    def draw(latent: Tensor, code: Tensor) -> Any:
        return model(latent[:, :62], code, latent[:, 62:])

    export(
        Call(model, draw), [torch.randn(2, 64), torch.eye(10)[:2]], folder / "decoder.onnx", ["z", "code"], ["image"]
    )
    z, y = shelf.latents(64), shelf.labels(10)
    rows = torch.eye(10)[torch.from_numpy(y)].numpy()
    shelf.write(folder, _INFOGAN, latents=z, labels=y, images=run(draw, z, rows))


_DCGAN = """\
kind: gan
latent_dim: 100
image_range: [-1, 1]
decoder:
  file: decoder.onnx
family: torchgan DCGANGenerator
"""
_CONDITIONAL = """\
kind: gan
latent_dim: 64
image_range: [-1, 1]
labels: 10
decoder:
  file: decoder.onnx
  latent: z
  label: y
family: torchgan ConditionalGANGenerator
"""
_INFOGAN = """\
kind: gan
latent_dim: 64
image_range: [-1, 1]
labels: 10
decoder:
  file: decoder.onnx
  latent: z
  label: code
family: torchgan InfoGANGenerator
"""

if __name__ == "__main__":
    shelf.main(
        {
            "torchgan-dcgan": dcgan,
            "torchgan-conditional": conditional,
            "torchgan-acgan": acgan,
            "torchgan-infogan": infogan,
        },
        (*PACKAGES, "torchgan"),
    )
