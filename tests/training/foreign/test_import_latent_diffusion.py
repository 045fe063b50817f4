"""An autoencoder as latent diffusion has them, from PyTorch, imported and served: as PyTorch computes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from running_server import running_server
from torch import nn

from latentserve_client import AsyncClient
from latentserve_training import commands

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:torch", "ignore::FutureWarning:copyreg")
"""PyTorch's exporter warns of PyTorch."""

SCALE, SHIFT = 0.18215, 0.5


class Decoder(nn.Module):
    """Latents [batch, 4, 4, 4] to images [batch, 16, 16, 3], channels last, that run a little beyond -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 16, 3, padding=1),
            nn.SiLU(),
            nn.Upsample(scale_factor=4),
            nn.GroupNorm(4, 16),
            nn.Conv2d(16, 3, 3, padding=1),
        )

    def forward(self, latent: torch.Tensor, sharpness: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = self.layers(latent) * sharpness
        return images.permute(0, 2, 3, 1)


class Encoder(nn.Module):
    """Images [batch, 3, 16, 16] to moments [batch, 8, 4, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.SiLU(), nn.Conv2d(16, 8, 3, padding=1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        moments: torch.Tensor = self.layers(image)
        return moments


def write(folder: Path, decoder: Decoder, encoder: Encoder, dtype: torch.dtype) -> None:
    """The two ONNX files and the description."""
    batch = torch.export.Dim("batch")
    latent, image = torch.randn(2, 4, 4, 4, dtype=dtype), torch.rand(2, 3, 16, 16, dtype=dtype)
    for module, name, inputs in (
        (decoder, "decoder", {"latent": latent, "sharpness": torch.ones((), dtype=dtype)}),
        (encoder, "encoder", {"image": image}),
    ):
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            folder / f"{name}.onnx",
            input_names=list(inputs),
            output_names=["pixels" if name == "decoder" else "moments"],
            dynamic_shapes=tuple({0: batch} if value.ndim else {} for value in inputs.values()),
            external_data=False,
            verbose=False,
        )
    description = {
        "kind": "vae",
        "latent_shape": [4, 4, 4],
        "latent_scale": SCALE,
        "latent_shift": SHIFT,
        "prior": "standard_normal",
        "image_range": [-1, 1],
        "clip": True,
        "likelihood": "gaussian",
        "log_scale": 0.0,
        "decoder": {"file": "decoder.onnx", "latent": "latent", "inputs": {"sharpness": 0.75}},
        "encoder": {"file": "encoder.onnx", "moments": "moments"},
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(description))


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float16, 4e-3)])
async def test_an_autoencoder_of_latent_diffusion_is_served(tmp_path: Path, dtype: torch.dtype, limit: float) -> None:
    torch.manual_seed(0)
    decoder, encoder = Decoder().eval().to(dtype), Encoder().eval().to(dtype)
    write(tmp_path, decoder, encoder, dtype)
    own = torch.randn(12, 4, 4, 4).to(dtype)
    image = torch.rand(12, 3, 16, 16).to(dtype)
    with torch.inference_mode():
        drawn = decoder(own, torch.tensor(0.75, dtype=dtype)).float().numpy()
        mean, log_variance = encoder(2 * image - 1).float().chunk(2, dim=1)
    np.savez(tmp_path / "samples.npz", latent=own.float().numpy(), image=drawn)
    argv = [str(tmp_path / "model.yaml"), "--repository", str(tmp_path / "models"), "--name", "diffused"]
    argv += ["--reference", str(tmp_path / "samples.npz"), "--reference-tolerance", str(limit)]
    assert commands.import_model(argv) == 0
    latents = SCALE * (own.float().numpy() - SHIFT)
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        decoded = await client.decode("diffused", latents)
        posterior = await client.encode("diffused", image.float().numpy())
    expected = ((drawn + 1) / 2).clip(0, 1).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(decoded.images, expected, rtol=0, atol=limit)
    np.testing.assert_allclose(posterior.mean, SCALE * (mean.numpy() - SHIFT), rtol=0, atol=limit)
    widened = log_variance.numpy() + 2 * np.log(SCALE)
    np.testing.assert_allclose(posterior.log_variance, widened, rtol=0, atol=limit)
