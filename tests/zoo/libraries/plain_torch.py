"""Networks in the shapes of PyTorch's own examples and tutorials, and a BigGAN in little, in torch alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import shelf
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_models import PACKAGES, Call, export, export_script, on_arrays, run, seeded, write_labelled


class ExampleVae(nn.Module):
    """The dense VAE of PyTorch's examples: 784-400-20 and back, pictures as flat rows."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = functional.relu(self.fc1(x.view(-1, 784)))
        return self.fc21(hidden), self.fc22(hidden)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(functional.relu(self.fc3(z))))


def example_vae(folder: Path) -> None:
    model = seeded(ExampleVae())
    export(Call(model, model.encode), [torch.rand(2, 784)], folder / "encoder.onnx", ["x"], ["mu", "logvar"])
    export(Call(model, model.decode), [torch.randn(2, 20)], folder / "decoder.onnx", ["z"], ["sample"])
    coder = on_arrays(model.encode), on_arrays(model.decode)
    shelf.write_autoencoder(folder, _EXAMPLE_VAE, *coder, shelf.latents(20), shelf.pictures(1, 28, 28))


def tutorial_dcgan() -> nn.Module:
    """The generator of PyTorch's DCGAN tutorial, with fewer features: latents [batch, 100, 1, 1] to 64x64."""
    nz, ngf = 100, 16
    sizes = [nz, ngf * 8, ngf * 4, ngf * 2, ngf]
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(sizes)):
        layers.append(nn.ConvTranspose2d(before, after, 4, 2 if place else 1, 1 if place else 0, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(ngf, 3, 4, 2, 1, bias=False), nn.Tanh())


def dcgan(folder: Path) -> None:
    model = seeded(tutorial_dcgan())
    export_script(model, [torch.randn(1, 100, 1, 1)], folder / "decoder.onnx", ["noise"], ["image"])
    z = shelf.latents(100)
    shelf.write(folder, _DCGAN, latents=z, images=run(model, z.reshape(-1, 100, 1, 1)))


def dcgan_one_row(folder: Path) -> None:
    """As a script that names no dynamic axes leaves it: a batch of one."""
    model = seeded(tutorial_dcgan())
    export_script(model, [torch.randn(1, 100, 1, 1)], folder / "decoder.onnx", ["noise"], ["image"], 17, batch=False)
    z = shelf.latents(100)
    shelf.write(folder, _DCGAN, latents=z, images=run(model, z.reshape(-1, 100, 1, 1)))


class ConditionalNorm(nn.Module):
    """Batch normalisation whose scale and shift follow from the label and a part of the latent."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Linear(condition, channels, bias=False), nn.Linear(condition, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = (part(condition)[:, :, None, None] for part in (self.scale, self.shift))
        return self.norm(x) * (1 + scale) + shift


class Block(nn.Module):
    """A residual block that doubles the sides."""

    def __init__(self, before: int, after: int, condition: int) -> None:
        super().__init__()
        self.first, self.second = ConditionalNorm(before, condition), ConditionalNorm(after, condition)
        self.conv1 = nn.utils.spectral_norm(nn.Conv2d(before, after, 3, padding=1))
        self.conv2 = nn.utils.spectral_norm(nn.Conv2d(after, after, 3, padding=1))
        self.shortcut = nn.utils.spectral_norm(nn.Conv2d(before, after, 1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = functional.interpolate(torch.relu(self.first(x, condition)), scale_factor=2)
        y = self.conv2(torch.relu(self.second(self.conv1(y), condition)))
        return y + self.shortcut(functional.interpolate(x, scale_factor=2))


class LittleBigGan(nn.Module):
    """A class-conditional generator as Brock et al. 2019 have it: shared embedding, a chunk of the latent a block."""

    def __init__(self, classes: int = 10, chunk: int = 16) -> None:
        super().__init__()
        self.shared = nn.Embedding(classes, 32)
        self.linear = nn.Linear(chunk, 4 * 4 * 64)
        self.blocks = nn.ModuleList(Block(a, b, chunk + 32) for a, b in ((64, 64), (64, 32), (32, 16)))
        self.norm, self.last = nn.BatchNorm2d(16), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        first, *rest = z.split(16, dim=1)
        x = self.linear(first).view(-1, 64, 4, 4)
        for block, part in zip(self.blocks, rest, strict=True):
            x = block(x, torch.cat([part, self.shared(y)], dim=1))
        return torch.tanh(self.last(torch.relu(self.norm(x))))


def biggan(folder: Path) -> None:
    write_labelled(folder, _BIGGAN, seeded(LittleBigGan()), 64, ["z", "y"])


_EXAMPLE_VAE = """\
kind: vae
prior: standard_normal
latent_dim: 20
image_shape: [1, 28, 28]
likelihood: bernoulli
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  mean: mu
  log_variance: logvar
family: VAE of PyTorch's examples
"""
_DCGAN = """\
kind: gan
latent_dim: 100
image_range: [-1, 1]
decoder:
  file: decoder.onnx
family: DCGAN of PyTorch's tutorial
"""
_BIGGAN = """\
kind: gan
latent_dim: 64
image_range: [-1, 1]
labels: 10
decoder:
  file: decoder.onnx
  latent: z
  label: y
family: BigGAN
"""

if __name__ == "__main__":
    shelf.main(
        {
            "example-vae": example_vae,
            "tutorial-dcgan": dcgan,
            "tutorial-dcgan-one-row": dcgan_one_row,
            "biggan": biggan,
        },
        PACKAGES,
    )
