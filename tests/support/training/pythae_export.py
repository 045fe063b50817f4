"""A VAE of pythae, an independent library, exported as its users would: its own networks, names and conventions.

Run with pythae on the path: `python pythae_export.py FOLDER` trains for a moment and writes decoder.onnx, encoder.onnx,
and expected.npz, what pythae itself makes of some images and latents.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from pythae.models import VAE, VAEConfig
from sklearn.datasets import load_digits
from torch import Tensor, nn


class Encoder(nn.Module):
    """Images to what pythae calls embedding and log-covariance."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        found = self.encoder(pixels)
        return found.embedding, found.log_covariance


class Decoder(nn.Module):
    """Latents to reconstructions."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(z).reconstruction


def write(module: nn.Module, rows: Tensor, path: Path, name: str, outputs: list[str]) -> None:
    torch.onnx.export(
        module,
        (rows,),
        path,
        input_names=[name],
        output_names=outputs,
        dynamic_shapes=({0: torch.export.Dim("samples")},),
        external_data=False,
    )


def main(folder: Path) -> None:
    torch.manual_seed(0)
    images = torch.from_numpy(load_digits().images[:, None] / 16).float()
    model = VAE(VAEConfig(input_dim=(1, 8, 8), latent_dim=4, reconstruction_loss="bce"))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(100):
        rows = images[torch.arange(128 * step, 128 * (step + 1)) % len(images)]
        optimizer.zero_grad()
        model({"data": rows}).loss.backward()
        optimizer.step()
    model.eval()
    write(Encoder(model), images[:2], folder / "encoder.onnx", "pixels", ["embedding", "log_covariance"])
    write(Decoder(model), torch.zeros(2, 4), folder / "decoder.onnx", "z", ["reconstruction"])
    with torch.no_grad():
        mean, log_variance = Encoder(model)(images[:9])
        reconstruction, drawn = Decoder(model)(mean), Decoder(model)(torch.eye(4))
    np.savez(
        folder / "expected.npz",
        images=images[:9].numpy(),
        mean=mean.numpy(),
        log_variance=log_variance.numpy(),
        reconstruction=reconstruction.numpy(),
        drawn=drawn.numpy(),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
