"""Autoencoders of diffusers with seeded weights, by save_pretrained, and what diffusers computes with them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import expected
import numpy as np
import shelf
from diffusers import AutoencoderKL, AutoencoderTiny, VQModel
from diffusers_models import BLOCKS, signed, small_dc
from torch_models import Array, Tensor, run, seeded, settle

PIXELS = shelf.pictures(3, 32, 32)


def unsigned(pixels: Array) -> Array:
    """Pictures in [0, 1] again."""
    return (pixels + 1) / 2


def kl(folder: Path, **config: Any) -> None:
    model: Any = seeded(AutoencoderKL(latent_channels=4, sample_size=32, **BLOCKS, **config), gain=0.6)
    scale, shift = model.config.scaling_factor, model.config.shift_factor or 0.0

    def draw(latents: Tensor) -> Tensor:
        return model.decode(latents / scale + shift).sample

    latents = shelf.latents(4, 8, 8)
    settle([model.decoder.conv_out], draw, latents, centre=0, spread=0.5)
    model.save_pretrained(folder / "saved", variant="fp16" if model.config.shift_factor else None)
    mean, log_variance = run(lambda x: model.encode(x).latent_dist.parameters.chunk(2, dim=1), signed(PIXELS))
    mean = scale * (mean - shift)
    expected.write(
        folder,
        latents=latents,
        images=unsigned(run(draw, latents)),
        pixels=PIXELS,
        mean=mean,
        log_variance=np.clip(log_variance, -30, 20) + 2 * np.log(scale),
        reconstruction=unsigned(run(draw, mean)),
    )


def _write_autoencoder(folder: Path, model: Any, encode: Callable[[Tensor], Tensor]) -> None:
    scale = model.config.scaling_factor
    code = run(encode, signed(PIXELS))

    def draw(latents: Tensor) -> Tensor:
        return model.decode(latents / scale).sample

    model.save_pretrained(folder / "saved")
    latents = shelf.latents(*code.shape[1:])
    expected.write(
        folder,
        latents=latents,
        images=unsigned(run(draw, latents)),
        pixels=PIXELS,
        mean=scale * code,
        reconstruction=unsigned(run(draw, scale * code)),
    )


def tiny(folder: Path) -> None:
    channels, blocks = (16, 16, 16), (1, 1, 1)
    model: Any = seeded(
        AutoencoderTiny(
            encoder_block_out_channels=channels,
            decoder_block_out_channels=channels,
            num_encoder_blocks=blocks,
            num_decoder_blocks=blocks,
        ),
        gain=0.8,
    )
    _write_autoencoder(folder, model, lambda x: model.encode(x).latents)


def dc(folder: Path) -> None:
    model = small_dc()
    _write_autoencoder(folder, model, lambda x: model.encode(x).latent)


def vq(folder: Path) -> None:
    model: Any = seeded(VQModel(latent_channels=4, num_vq_embeddings=64, sample_size=32, **BLOCKS), gain=0.6)

    def draw(codes: Tensor) -> Tensor:
        latents = model.quantize.get_codebook_entry(codes, (len(codes), 8, 8, 4))
        return model.decode(latents, force_not_quantize=True).sample

    latents = np.random.default_rng(0).integers(64, size=(64, 8, 8))
    settle([model.decoder.conv_out], draw, latents, centre=0, spread=0.5)
    model.save_pretrained(folder / "saved")
    codes = run(lambda x: model.quantize(model.encode(x).latents)[2][2].reshape(-1, 8, 8), signed(PIXELS))
    expected.write(
        folder,
        latents=latents,
        images=unsigned(run(draw, latents)),
        pixels=PIXELS,
        codes=codes,
        reconstruction=unsigned(run(lambda x: model(x).sample, signed(PIXELS))),
    )


def main(place: Path) -> None:
    models: dict[str, Callable[[Path], None]] = {
        "kl": kl,
        "kl-shifted": lambda folder: kl(folder, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False),
        "tiny": tiny,
        "dc": dc,
        "vq": vq,
    }
    for name, write in models.items():
        (place / name).mkdir(parents=True)
        write(place / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
