"""Autoencoders of diffusers: AutoencoderKL as Stable Diffusion 1 and 3 have it, two without a spread, and VQModel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shelf
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, VQModel
from torch_models import PACKAGES, Array, Call, Tensor, export, export_script, on_arrays, run, seeded, settle

BLOCKS: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (16, 32, 32),
    "norm_num_groups": 8,
}
_PICTURE = (3, 32, 32)


def signed(pixels: Array) -> Array:
    """Pictures as diffusers' VaeImageProcessor normalises them."""
    return 2 * pixels - 1


def _write_kl(folder: Path, model: Any, exporter: Any, description: str) -> None:
    """The tensors have optimum's names, and the callers' latents are the scaled ones of diffusers' pipelines."""
    channels, scale, shift = model.config.latent_channels, model.config.scaling_factor, model.config.shift_factor or 0.0
    z, pixels = shelf.latents(channels, 8, 8), shelf.pictures(*_PICTURE)

    def moments(sample: Tensor) -> Tensor:
        parameters: Tensor = model.encode(sample).latent_dist.parameters
        return parameters

    def decode(latent: Tensor) -> Tensor:
        sample: Tensor = model.decode(latent).sample
        return sample

    def posterior(x: Array) -> tuple[Array, Array]:
        mean, log_variance = np.split(run(moments, signed(x)), 2, axis=1)
        return scale * (mean - shift), log_variance + 2 * np.log(scale)

    def draw(scaled: Array) -> Any:
        return run(decode, scaled / scale + shift)

    settle([model.decoder.conv_out], decode, z / scale + shift, centre=0, spread=0.5)
    example = [torch.rand(2, *_PICTURE)], [torch.randn(2, channels, 8, 8)]
    exporter(Call(model, moments), example[0], folder / "encoder.onnx", ["sample"], ["latent_parameters"])
    exporter(Call(model, decode), example[1], folder / "decoder.onnx", ["latent_sample"], ["sample"])
    shelf.write_autoencoder(folder, description, posterior, draw, z, pixels)


def kl(folder: Path) -> None:
    model = seeded(AutoencoderKL(latent_channels=4, **BLOCKS), gain=0.6)
    _write_kl(folder, model, export_script, _KL.format(channels=4, scale=0.18215, shift=0))


def kl_shifted(folder: Path) -> None:
    scaling: dict[str, Any] = {"scaling_factor": 1.5305, "shift_factor": 0.0609}
    model = AutoencoderKL(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False, **scaling, **BLOCKS)
    _write_kl(folder, seeded(model, gain=0.6), export, _KL.format(channels=16, scale=1.5305, shift=0.0609))


def _write_autoencoder(
    folder: Path,
    description: str,
    model: Any,
    encode: Callable[[Tensor], Tensor],
    sides: Sequence[int],
    scale: float = 1.0,
    **options: bool,
) -> None:
    """An autoencoder without a spread, whose callers' latents are scaled."""

    def decode(latents: Tensor) -> Tensor:
        sample: Tensor = model.decode(latents).sample
        return sample

    example = [torch.rand(2, *_PICTURE)], [torch.randn(2, *sides)]
    export(Call(model, encode), example[0], folder / "encoder.onnx", ["sample"], ["latents"], **options)
    export(Call(model, decode), example[1], folder / "decoder.onnx", ["latents"], ["sample"], **options)
    shelf.write_autoencoder(
        folder,
        description,
        lambda x: scale * run(encode, signed(x)),
        lambda z: run(decode, z / scale),
        shelf.latents(*sides),
        shelf.pictures(*_PICTURE),
    )


def tiny(folder: Path) -> None:
    model: Any = seeded(
        AutoencoderTiny(
            encoder_block_out_channels=(16, 16, 16),
            decoder_block_out_channels=(16, 16, 16),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
        ),
    )

    def encode(sample: Tensor) -> Tensor:
        latents: Tensor = model.encode(sample).latents
        return latents

    settle([model.encoder.layers[-1]], encode, signed(shelf.pictures(*_PICTURE)), centre=0, spread=1)
    settle([model.decoder.layers[-1]], lambda z: model.decode(z).sample, shelf.latents(4, 8, 8), centre=0, spread=0.5)
    _write_autoencoder(folder, _TINY, model, encode, (4, 8, 8))


def small_dc() -> Any:
    """An AutoencoderDC of two blocks with seeded weights."""
    return seeded(
        AutoencoderDC(
            in_channels=3,
            latent_channels=8,
            attention_head_dim=8,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(16, 32),
            decoder_block_out_channels=(16, 32),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            downsample_block_type="Conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        gain=0.6,
    )


def dc(folder: Path) -> None:
    """Not optimised, which would leave out the 1e-15 under its attention: NaN where no query meets a key."""
    model = small_dc()

    def encode(sample: Tensor) -> Tensor:
        latent: Tensor = model.encode(sample).latent
        return latent

    sides = encode(torch.rand(1, *_PICTURE)).shape[1:]
    description = _DC.format(sides=list(sides))
    _write_autoencoder(folder, description, model, encode, sides, model.config.scaling_factor, optimize=False)


def vq(folder: Path) -> None:
    """The encoder gives the codes, and the decoder takes them."""
    codes = 64
    model: Any = seeded(VQModel(latent_channels=4, num_vq_embeddings=codes, **BLOCKS), gain=0.6)

    def encode(x: Tensor) -> Tensor:
        _, _, (_, _, indices) = model.quantize(model.encode(x).latents)
        return indices.reshape(-1, 8, 8)

    def draw(indices: Tensor) -> Tensor:
        z = model.quantize.get_codebook_entry(indices, (-1, 8, 8, 4))
        return model.decode(z, force_not_quantize=True).sample

    export(Call(model, encode), [torch.rand(2, *_PICTURE)], folder / "encoder.onnx", ["sample"], ["codes"])
    example = torch.randint(codes, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    settle([model.decoder.conv_out], draw, example.numpy(), centre=0, spread=0.5)
    export(Call(model, draw), [example], folder / "decoder.onnx", ["codes"], ["sample"])
    shelf.write_quantised(folder, _VQ, lambda x: run(encode, signed(x)), on_arrays(draw), shelf.pictures(*_PICTURE))


_KL = """\
kind: vae
prior: standard_normal
latent_shape: [{channels}, 8, 8]
latent_scale: {scale}
latent_shift: {shift}
image_range: [-1, 1]
clip: true
likelihood: gaussian
log_scale: 0
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  moments: latent_parameters
family: diffusers AutoencoderKL
"""
_TINY = """\
kind: autoencoder
latent_shape: [4, 8, 8]
image_range: [-1, 1]
clip: true
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  latent: latents
family: diffusers AutoencoderTiny
"""
_DC = """\
kind: autoencoder
latent_shape: {sides}
latent_scale: 0.41407
image_range: [-1, 1]
clip: true
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  latent: latents
family: diffusers AutoencoderDC
"""
_VQ = """\
kind: vq
latent_shape: [8, 8]
codes: 64
image_range: [-1, 1]
clip: true
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  codes: codes
family: diffusers VQModel
"""

if __name__ == "__main__":
    shelf.main(
        {
            "diffusers-kl": kl,
            "diffusers-kl-shifted": kl_shifted,
            "diffusers-tiny": tiny,
            "diffusers-dc": dc,
            "diffusers-vq": vq,
        },
        (*PACKAGES, "diffusers"),
    )
