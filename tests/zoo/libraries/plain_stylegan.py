"""StyleGAN2 in torch alone: psi, noise in every layer, and its authors' convolutions in groups of the batch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import shelf
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_models import PACKAGES, Call, export, run

_DIM, _CHANNELS, _SIDES = 32, 16, (4, 8, 8, 16, 16)
_NOISE = tuple(f"noise_{place}" for place in range(len(_SIDES)))
_PSI = 0.7


class Dense(nn.Module):
    """A dense layer whose weights are scaled as they are used."""

    def __init__(self, before: int, after: int, bias: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(after, before)), nn.Parameter(torch.full((after,), bias))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class Modulated(nn.Module):
    """A convolution whose weights are each row's own: one convolution in as many groups as the batch has rows."""

    def __init__(self, after: int, side: int, demodulated: bool = True) -> None:
        super().__init__()
        self.style, self.demodulated = Dense(_DIM, _CHANNELS, 1.0), demodulated
        self.weight = nn.Parameter(torch.randn(after, _CHANNELS, side, side))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        rows, channels, height, width = x.shape
        after, _, side, _ = self.weight.shape
        weight = self.weight * self.style(w).reshape(rows, 1, channels, 1, 1) / math.sqrt(channels * side**2)
        if self.demodulated:
            weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        grouped, kernels = x.reshape(1, -1, height, width), weight.reshape(rows * after, channels, side, side)
        return functional.conv2d(grouped, kernels, padding=side // 2, groups=rows).reshape(rows, after, height, width)


class Layer(nn.Module):
    """A convolution, noise, and the activation that keeps the variance."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.strength = Modulated(_CHANNELS, 3), nn.Parameter(torch.tensor(0.3))
        self.bias = nn.Parameter(0.2 * torch.randn(_CHANNELS, 1, 1))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        return functional.leaky_relu(self.conv(x, w) + self.strength * noise + self.bias, 0.2) * math.sqrt(2)


class StyleGan(nn.Module):
    """Latents and psi to pictures of 16x16, with skip connections; the mean style is a buffer that training leaves."""

    mean_style: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.ModuleList(Dense(_DIM, _DIM) for _ in range(4))
        self.register_buffer("mean_style", 0.1 * torch.randn(_DIM))
        self.start = nn.Parameter(torch.randn(1, _CHANNELS, 4, 4))
        self.layers = nn.ModuleList(Layer() for _ in _SIDES)
        self.to_rgb = nn.ModuleList(Modulated(3, 1, demodulated=False) for _ in set(_SIDES))

    def forward(self, z: Tensor, psi: Tensor, *noise: Tensor) -> Tensor:
        w = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        for dense in self.mapping:
            w = functional.leaky_relu(dense(w), 0.2) * math.sqrt(2)
        w = torch.lerp(self.mean_style, w, psi)
        x = self.layers[0](self.start.expand(len(z), -1, -1, -1), w, noise[0])
        rgb = self.to_rgb[0](x, w)
        for place, last in enumerate(self.to_rgb[1:]):
            x, rgb = _doubled(x), _doubled(rgb)
            for k in (2 * place + 1, 2 * place + 2):
                x = self.layers[k](x, w, noise[k])
            rgb = rgb + last(x, w)
        return torch.tanh(rgb / 2)


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def stylegan(folder: Path) -> None:
    """Groups are a number in the file, so that it takes as many rows as it was exported with, whatever is asked for."""
    torch.manual_seed(0)
    model: Any = StyleGan().eval()
    psi = torch.tensor(_PSI)
    example = [torch.randn(2, _DIM), psi, *(torch.randn(2, 1, side, side) for side in _SIDES)]
    export(
        Call(model, model.forward), example, folder / "decoder.onnx", ["z", "psi", *_NOISE], ["image"], fixed=["psi"]
    )
    z = shelf.latents(_DIM)
    noise = [shelf.latents(1, side, side, stream=3 + place) for place, side in enumerate(_SIDES)]
    fixed = [np.broadcast_to(rows[:1], rows.shape).copy() for rows in noise]
    shelf.write(
        folder,
        _STYLEGAN,
        latents=z,
        images=run(model, z, psi.numpy(), *noise),
        decoded=run(model, z, psi.numpy(), *fixed),
    )


_STYLEGAN = f"""\
kind: gan
latent_dim: {_DIM}
image_range: [-1, 1]
decoder:
  file: decoder.onnx
  latent: z
  inputs:
    psi: {_PSI}
  noise: [{", ".join(_NOISE)}]
family: StyleGAN2
"""

if __name__ == "__main__":
    shelf.main({"stylegan-groups": stylegan}, PACKAGES)
