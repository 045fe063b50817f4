"""StyleGAN2 of stylegan2-pytorch, whose convolutions are grouped by the batch and whose noise is an input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import shelf
import torch
from stand_ins import stand_in_for
from torch import nn
from torch.nn import functional
from torch_models import PACKAGES, Array, Call, Tensor, export, export_script, run, seeded, settle

stand_in_for("aim", "fire", "torchvision", "tqdm", "vector_quantize_pytorch", "kornia.augmentation")
_has_cuda, torch.cuda.is_available = torch.cuda.is_available, lambda: True  # it asks when it is imported
from stylegan2_pytorch.stylegan2_pytorch import Conv2DMod, Generator, StyleVectorizer

torch.cuda.is_available = _has_cuda
_DIM, _SIZE = 32, 32


class Whole(nn.Module):
    """Mapping and synthesis with one style for all layers, as the library's own sampling does."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping = StyleVectorizer(_DIM, depth=4)
        self.synthesis = Generator(_SIZE, _DIM, network_capacity=4)
        self.layers = self.synthesis.num_layers

    def forward(self, z: Tensor, noise: Tensor) -> Tensor:
        styles = self.mapping(z)[:, None].expand(-1, self.layers, -1)
        drawn: Tensor = self.synthesis(styles, noise)
        return drawn


def _whole() -> Any:
    """The generator with seeded weights, its styles wide enough to be seen."""
    model: Any = seeded(Whole())
    with torch.no_grad():
        for name, weight in model.mapping.named_parameters():  # multiplied by 0.1 as it is read
            weight.mul_(10 if name.endswith("weight") else 1)
        for name, weight in model.synthesis.named_parameters():
            if "to_style" in name:
                weight.mul_(3)
    layers = [block.to_rgb.conv for block in model.synthesis.blocks]
    settle(layers, model, shelf.latents(_DIM), _noise(), centre=0, spread=0.5)
    return model


def _noise() -> Array:
    """What each seed draws for the first noise input."""
    return shelf.latents(_SIZE, _SIZE, 1, stream=3)


def one_row(folder: Path) -> None:
    """As the library is: a batch of one, and the noise a value that never changes."""
    model, noise = _whole(), np.zeros((1, _SIZE, _SIZE, 1), np.float32)
    export_script(
        model,
        [torch.randn(1, _DIM), torch.from_numpy(noise)],
        folder / "decoder.onnx",
        ["z", "noise"],
        ["rgb"],
        17,
        batch=False,
    )
    z = shelf.latents(_DIM)
    images = np.concatenate([run(model, row[None], noise) for row in z])
    shelf.write(folder, _QUIET, latents=z, images=images)


def _modulated(self: Any, x: Tensor, y: Tensor) -> Tensor:
    """Conv2DMod.forward with the styles in the activations: the same numbers by a convolution without groups."""
    style = (y + 1)[:, :, None, None]
    padding = self._get_same_padding(x.shape[2], self.kernel, self.dilation, self.stride)
    drawn = functional.conv2d(x * style, self.weight, padding=padding)
    if self.demod:
        energy = functional.linear((y + 1) ** 2, (self.weight**2).sum(dim=(2, 3)))
        drawn = drawn * torch.rsqrt(energy + self.eps)[:, :, None, None]
    return drawn


class Adapted:
    """While it is entered, the library's modulated convolution is written so that it can be exported for any batch."""

    def __enter__(self) -> None:
        self._own, Conv2DMod.forward = Conv2DMod.forward, _modulated

    def __exit__(self, *_error: object) -> None:
        Conv2DMod.forward = self._own


def quiet(folder: Path) -> None:
    """Adapted convolutions, the noise taken for zero."""
    _write_adapted(folder, np.zeros((shelf.SEEDS, _SIZE, _SIZE, 1), np.float32), _QUIET)


def noisy(folder: Path) -> None:
    """Adapted convolutions, and the noise drawn for every row; of given latents it is that of seed 0."""
    noise = _noise()
    _write_adapted(folder, noise, _NOISY, decoded=np.broadcast_to(noise[:1], noise.shape).copy())


def _write_adapted(folder: Path, noise: Array, description: str, **others: Array) -> None:
    model = _whole()
    with Adapted():
        example = [torch.randn(2, _DIM), torch.randn(2, _SIZE, _SIZE, 1)]
        export(Call(model, model.forward), example, folder / "decoder.onnx", ["z", "noise"], ["rgb"])
    z = shelf.latents(_DIM)
    drawn = {name: run(model, z, other) for name, other in others.items()}
    shelf.write(folder, description, latents=z, images=run(model, z, noise), **drawn)


_QUIET = """\
kind: gan
latent_dim: 32
clip: true
decoder:
  file: decoder.onnx
  latent: z
  inputs:
    noise: 0
family: stylegan2-pytorch
"""
_NOISY = """\
kind: gan
latent_dim: 32
clip: true
decoder:
  file: decoder.onnx
  latent: z
  noise: [noise]
family: stylegan2-pytorch
"""

if __name__ == "__main__":
    shelf.main(
        {"stylegan2-one-row": one_row, "stylegan2-adapted": quiet, "stylegan2-noise": noisy},
        (*PACKAGES, "stylegan2-pytorch"),
    )
