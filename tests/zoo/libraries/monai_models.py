"""MONAI's autoencoders: AutoencoderKL with deviations, VarAutoEncoder, and a VQ-VAE, of grey pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import shelf
import torch
from monai.networks.nets import VQVAE, AutoencoderKL, VarAutoEncoder
from torch_models import PACKAGES, Array, Call, Tensor, export, on_arrays, run, seeded, settle

_PICTURE = (1, 32, 32)


def kl(folder: Path) -> None:
    model: Any = seeded(
        AutoencoderKL(
            spatial_dims=2,
            channels=(16, 32, 32),
            attention_levels=(False, False, True),
            num_res_blocks=1,
            latent_channels=3,
            norm_num_groups=8,
        ),
        gain=0.6,
    )
    z, pixels = shelf.latents(3, 8, 8), shelf.pictures(*_PICTURE)
    settle([model.decoder.blocks[-1].conv], model.decode, z, centre=0.5, spread=0.25)
    export(Call(model, model.encode), [torch.rand(2, *_PICTURE)], folder / "encoder.onnx", ["x"], ["z_mu", "z_sigma"])
    export(Call(model, model.decode), [torch.randn(2, 3, 8, 8)], folder / "decoder.onnx", ["z"], ["reconstruction"])

    def posterior(x: Array) -> tuple[Array, Array]:
        mean, deviation = run(model.encode, x)
        return mean, 2 * np.log(deviation.astype(np.float64))

    shelf.write_autoencoder(folder, _KL, posterior, on_arrays(model.decode), z, pixels)


def var_auto_encoder(folder: Path) -> None:
    options: dict[str, Any] = {"channels": (8, 16), "strides": (2, 2), "latent_size": 12}
    model: Any = seeded(VarAutoEncoder(spatial_dims=2, in_shape=_PICTURE, out_channels=1, **options))

    def draw(z: Tensor) -> Tensor:
        drawn: Tensor = model.decode_forward(z, True)
        return drawn

    encode = model.encode_forward
    export(Call(model, encode), [torch.rand(2, *_PICTURE)], folder / "encoder.onnx", ["x"], ["mu", "logvar"])
    export(Call(model, draw), [torch.randn(2, 12)], folder / "decoder.onnx", ["z"], ["reconstruction"])
    coder = on_arrays(encode), on_arrays(draw)
    shelf.write_autoencoder(folder, _VAR, *coder, shelf.latents(12), shelf.pictures(*_PICTURE))


def vq(folder: Path) -> None:
    model: Any = seeded(
        VQVAE(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            channels=(16, 16),
            num_res_channels=(16, 16),
            num_res_layers=1,
            downsample_parameters=((2, 4, 1, 1),) * 2,
            upsample_parameters=((2, 4, 1, 1, 0),) * 2,
            num_embeddings=32,
            embedding_dim=8,
        )
    )
    encode, draw = model.index_quantize, model.decode_samples
    example = torch.randint(32, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    settle([model.decoder.blocks[-1].conv], draw, example.numpy(), centre=0.5, spread=0.25)
    export(Call(model, encode), [torch.rand(2, *_PICTURE)], folder / "encoder.onnx", ["images"], ["indices"])
    export(Call(model, draw), [example], folder / "decoder.onnx", ["indices"], ["reconstruction"])
    shelf.write_quantised(folder, _VQ, on_arrays(encode), on_arrays(draw), shelf.pictures(*_PICTURE))


_KL = """\
kind: vae
prior: standard_normal
latent_shape: [3, 8, 8]
clip: true
likelihood: gaussian
log_scale: 0
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  mean: z_mu
  standard_deviation: z_sigma
family: MONAI AutoencoderKL
"""
_VAR = """\
kind: vae
prior: standard_normal
latent_dim: 12
likelihood: bernoulli
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  mean: mu
  log_variance: logvar
family: MONAI VarAutoEncoder
"""
_VQ = """\
kind: vq
latent_shape: [8, 8]
codes: 32
clip: true
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  codes: indices
family: MONAI VQVAE
"""

if __name__ == "__main__":
    shelf.main({"monai-kl": kl, "monai-var-auto-encoder": var_auto_encoder, "monai-vq": vq}, (*PACKAGES, "monai"))
