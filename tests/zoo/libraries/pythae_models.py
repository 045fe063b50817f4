"""Autoencoders of pythae: its default networks, those of its benchmarks, a deterministic one, and a VQ-VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import shelf
import torch
from pythae.models import VAE, WAE_MMD, VAEConfig, WAE_MMD_Config
from pythae.models.nn.benchmarks.celeba import Decoder_Conv_AE_CELEBA, Encoder_Conv_VAE_CELEBA
from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST, Encoder_Conv_AE_MNIST, Encoder_Conv_VAE_MNIST
from torch_models import PACKAGES, Call, Tensor, export, on_arrays, seeded


def _posterior(model: Any) -> Any:
    def posterior(x: Tensor) -> tuple[Tensor, Tensor]:
        found = model.encoder(x)
        return found.embedding, found.log_covariance

    return posterior


def _write_vae(folder: Path, model: Any, dim: int, shape: tuple[int, int, int], description: str) -> None:
    posterior, draw = _posterior(model), lambda z: model.decoder(z).reconstruction
    export(
        Call(model, posterior), [torch.rand(2, *shape)], folder / "encoder.onnx", ["x"], ["embedding", "log_covariance"]
    )
    export(Call(model, draw), [torch.randn(2, dim)], folder / "decoder.onnx", ["z"], ["reconstruction"])
    coder = on_arrays(posterior), on_arrays(draw)
    shelf.write_autoencoder(folder, description, *coder, shelf.latents(dim), shelf.pictures(*shape))


def mlp_vae(folder: Path) -> None:
    model = seeded(VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=16, reconstruction_loss="bce")))
    _write_vae(folder, model, 16, (1, 28, 28), _BERNOULLI)


def conv_vae(folder: Path) -> None:
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=16, reconstruction_loss="bce")
    model = seeded(VAE(config, encoder=Encoder_Conv_VAE_MNIST(config), decoder=Decoder_Conv_AE_MNIST(config)))
    _write_vae(folder, model, 16, (1, 28, 28), _BERNOULLI)


def celeba_vae(folder: Path) -> None:
    config = VAEConfig(input_dim=(3, 64, 64), latent_dim=64)
    model = seeded(VAE(config, encoder=Encoder_Conv_VAE_CELEBA(config), decoder=Decoder_Conv_AE_CELEBA(config)))
    _write_vae(folder, model, 64, (3, 64, 64), _GAUSSIAN)


def wae(folder: Path) -> None:
    """A Wasserstein autoencoder: its encoder gives one code and no spread."""
    config = WAE_MMD_Config(input_dim=(1, 28, 28), latent_dim=16)
    model = seeded(WAE_MMD(config, encoder=Encoder_Conv_AE_MNIST(config), decoder=Decoder_Conv_AE_MNIST(config)))
    code, draw = (lambda x: model.encoder(x).embedding), (lambda z: model.decoder(z).reconstruction)
    export(Call(model, code), [torch.rand(2, 1, 28, 28)], folder / "encoder.onnx", ["x"], ["embedding"])
    export(Call(model, draw), [torch.randn(2, 16)], folder / "decoder.onnx", ["z"], ["reconstruction"])
    coder = on_arrays(code), on_arrays(draw)
    shelf.write_autoencoder(folder, _WAE, *coder, shelf.latents(16), shelf.pictures(1, 28, 28))


_BERNOULLI = """\
kind: vae
prior: standard_normal
latent_dim: 16
likelihood: bernoulli
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  mean: embedding
  log_variance: log_covariance
family: pythae VAE
"""
_GAUSSIAN = """\
kind: vae
prior: standard_normal
latent_dim: 64
likelihood: gaussian  # mse: half the squared error, so a scale of 1
log_scale: 0
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  mean: embedding
  log_variance: log_covariance
family: pythae VAE, CelebA networks
"""
_WAE = """\
kind: autoencoder
latent_dim: 16
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  latent: embedding
family: pythae WAE-MMD
"""


if __name__ == "__main__":
    shelf.main(
        {"pythae-vae": mlp_vae, "pythae-conv-vae": conv_vae, "pythae-celeba-vae": celeba_vae, "pythae-wae": wae},
        (*PACKAGES, "pythae"),
    )
