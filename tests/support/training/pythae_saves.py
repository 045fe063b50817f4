"""Models of pythae with seeded weights, saved by pythae, and what it computes with them.

Run with pythae on the path: `python pythae_saves.py FOLDER` writes for each model FOLDER/NAME/saved, which is pythae's,
and FOLDER/NAME/expected.npz: `latents` [64, ...], row 0 of the noise scheme for seeds 0 to 63, or codes; `images` of
these; `pixels` [8, ...]; `mean` and perhaps `log_variance`, or `codes`; and `reconstruction`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pythae.models import VAE, VAMP, VQVAE, WAE_MMD, VAEConfig, VAMPConfig, VQVAEConfig, WAE_MMD_Config
from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST, Encoder_Conv_VAE_MNIST
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))
from plain_noise import noise_row

SEEDS, PICTURES, DIM = 64, 8, 6
SMALL: dict[str, Any] = {"input_dim": (1, 8, 8), "latent_dim": DIM}


def seeded(model: nn.Module) -> Any:
    """The model with seeded weights, larger than at the start, since pictures of fresh ones are all grey."""
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            width = weight[0].numel() if weight.ndim > 1 else 25
            weight.copy_(1.5 * torch.randn(weight.shape, generator=drawn) / width**0.5)
    return model.eval()


def noise(dim: int) -> Tensor:
    return torch.from_numpy(np.stack([noise_row(seed, 0, 0, dim) for seed in range(SEEDS)]))


def codes_of(model: Any, images: Tensor) -> Tensor:
    """The codes that a run of the model finds."""
    return model({"data": images}).quantized_indices.squeeze(1)


def write(folder: Path, model: Any) -> None:
    """Save the model, and beside it what it computes."""
    model.save(str(folder / "saved"))
    pixels = torch.rand(PICTURES, *model.model_config.input_dim, generator=torch.Generator().manual_seed(1))
    expected: dict[str, Tensor] = {"pixels": pixels}
    with torch.no_grad():
        if isinstance(model, VQVAE):
            expected["codes"] = codes_of(model, pixels)
            expected["reconstruction"] = model({"data": pixels}).recon_x
            book = model.quantizer.embeddings.weight
            expected["latents"] = torch.arange(SEEDS * DIM).reshape(SEEDS, 1, DIM) % len(book)
            expected["images"] = model.decoder(book[expected["latents"]].reshape(SEEDS, DIM)).reconstruction
        else:
            found = model.encoder(pixels)
            expected["mean"] = found.embedding
            if "log_covariance" in found:
                expected["log_variance"] = found.log_covariance
            expected["latents"] = noise(model.latent_dim)
            expected["images"] = model.decoder(expected["latents"]).reconstruction
            expected["reconstruction"] = model.decoder(found.embedding).reconstruction
        if isinstance(model, VAMP):
            inputs = model.pseudo_inputs(model.idle_input).reshape(-1, *model.model_config.input_dim)
            pseudo = model.encoder(inputs)
            expected["means"], expected["log_variances"] = pseudo.embedding, pseudo.log_covariance
    np.savez(folder / "expected.npz", allow_pickle=False, **{name: rows.numpy() for name, rows in expected.items()})


def main(place: Path) -> None:
    conv = VAEConfig(input_dim=(1, 28, 28), latent_dim=DIM, reconstruction_loss="mse")
    models = {
        "vae": VAE(VAEConfig(**SMALL, reconstruction_loss="bce")),
        "vamp": VAMP(VAMPConfig(**SMALL, number_components=5)),
        "vqvae": VQVAE(VQVAEConfig(**SMALL, num_embeddings=16)),
        "wae": WAE_MMD(WAE_MMD_Config(**SMALL)),
        "own-networks": VAE(conv, encoder=Encoder_Conv_VAE_MNIST(conv), decoder=Decoder_Conv_AE_MNIST(conv)),
    }
    for name, model in models.items():
        (place / name).mkdir(parents=True)
        write(place / name, seeded(model))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
