"""Autoencoders that diffusers saved with save_pretrained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentserve_training.errors import ConfigError, ExportError
from latentserve_training.foreign.guess.draft import Guess
from latentserve_training.foreign.saved.library import at_work, load_library, read_settings
from latentserve_training.foreign.saved.request import SavedRequest
from latentserve_training.foreign.saved.saved_model import SavedModel, latent_size
from latentserve_training.foreign.saved.torch_network import torch_network

_KNOWN = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "VQModel")
_IMAGES = (
    Guess("image_range", [-1, 1], "as diffusers' VaeImageProcessor normalises pictures"),
    Guess("clip", True, "as that does, too"),
    Guess("layout", "nchw", "diffusers' networks have channels first"),
)
_EXAMPLE_ROWS = 2

Encode = Callable[[Tensor], Sequence[Tensor]]
Kind = tuple[Sequence[Guess], Encode, tuple[str, ...]]
"""What is known of a model by its class, what its encoder computes, and what that is called."""


def open_diffusers(request: SavedRequest) -> SavedModel:
    """The model in the folder that `save_pretrained` wrote; nothing is downloaded.

    Raises:
        ConfigError: diffusers is missing, or the folder is none of a known autoencoder.
        ExportError: diffusers cannot load it.
    """
    path = request.path
    if (path / "model_index.json").exists():
        raise ConfigError(f"{path}: a pipeline; give the folder of its autoencoder, such as {path / 'vae'}")
    settings = read_settings(path, "config.json", "save_pretrained of diffusers")
    name = settings.get("_class_name")
    if name not in _KNOWN:
        raise ConfigError(f"{path / 'config.json'}: _class_name is {name}; known are {', '.join(_KNOWN)}")
    model = _load(load_library("diffusers"), name, path)
    size = _image_size(request, name, model.config)
    with at_work(f"{path}: diffusers cannot run it with --image-size {size[0]}"), torch.no_grad():
        return _opened(model, name, size)


def _load(library: Any, name: str, path: Path) -> Any:
    """The module in float32, with all of its weights from the files."""
    with at_work(f"{path}: diffusers cannot load it"):
        model, found = getattr(library, name).from_pretrained(
            str(path),
            variant=_variant(path),
            torch_dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    if lacking := sorted(found["missing_keys"]):
        raise ExportError(f"{path}: the weights of {len(lacking)} parameters are missing, {lacking[0]} among them")
    return model.eval()


def _variant(path: Path) -> str | None:
    """The variant of the weights that is the only one there, such as fp16; None where they have no such name."""
    names = [file.name.split(".") for file in path.glob("diffusion_pytorch_model*")]
    variants = sorted({parts[1] for parts in names if len(parts) == 3})
    return variants[0] if variants and not any(len(parts) == 2 for parts in names) else None


def _image_size(request: SavedRequest, name: str, config: Mapping[str, Any]) -> tuple[int, int]:
    size = request.image_size or config.get("sample_size")
    if size is None:
        raise ConfigError(f"--image-size is missing; the configuration of an {name} does not tell it")
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return int(height), int(width)


def _opened(model: Any, name: str, size: tuple[int, int]) -> SavedModel:
    config, quantised = model.config, name == "VQModel"
    told = "sample_size" if config.get("sample_size") == size[0] else "--image-size"
    stated, encode, outputs = _KINDS[name](model)
    images = torch.zeros(_EXAMPLE_ROWS, config.in_channels, *size)
    latents = encode(images)[0]
    draw = _draw_codes(model, latents.shape[1:]) if quantised else lambda z: [model.decode(z).sample]
    channels, *drawn = draw(latents)[0].shape[1:]
    if tuple(drawn) != size:
        wide = " x ".join(map(str, drawn))
        raise ConfigError(f"--image-size is {size[0]}, of which the decoder makes {wide}; give a multiple of its steps")
    # As it is optimised, AutoencoderDC loses the 1e-15 under its attention: NaN where no query meets a key.
    options = {"optimize": False} if name == "AutoencoderDC" else {}
    return SavedModel(
        stated=(
            *stated,
            *_IMAGES,
            latent_size(latents.shape[1:], f"what the encoder makes of pictures of {size[0]} x {size[1]}"),
            Guess("image_shape", [channels, *size], told),
            Guess("family", f"diffusers {name}", "the class that config.json names"),
        ),
        decoder=torch_network(model, draw, latents, ("image",), **options),
        encoder=torch_network(model, encode, images, outputs, **options),
    )


def _kl(model: Any) -> Kind:
    def encode(images: Tensor) -> Sequence[Tensor]:
        posterior = model.encode(images).latent_dist
        return posterior.mean, posterior.logvar

    loss = "config.json does not say the loss; taken as the squared error, the Gaussian of scale 1"
    prior = "its encoder is held to N(0, I); samples are no good pictures where a diffusion model draws the latents"
    stated = (
        Guess("kind", "vae", "an AutoencoderKL encodes to a distribution"),
        Guess("prior", "standard_normal", prior),
        Guess("likelihood", "gaussian", loss),
        Guess("log_scale", 0, ""),
        *_scaling(model.config),
    )
    return stated, encode, ("mean", "log_variance")


def _tiny(model: Any) -> Kind:
    return (*_POINTS, *_scaling(model.config)), lambda x: [model.encode(x).latents], ("mean",)


def _dc(model: Any) -> Kind:
    return (*_POINTS, *_scaling(model.config)), lambda x: [model.encode(x).latent], ("mean",)


def _vq(model: Any) -> Kind:
    def encode(images: Tensor) -> Sequence[Tensor]:
        latents = model.encode(images).latents
        _, _, (_, _, codes) = model.quantize(latents)
        return [codes.reshape(-1, *latents.shape[2:])]

    kind = Guess("kind", "vq", "a VQModel encodes to entries of a codebook")
    return (kind, Guess("codes", model.config.num_vq_embeddings, "num_vq_embeddings")), encode, ("codes",)


_POINTS = (Guess("kind", "autoencoder", "its encoder gives one latent, and no distribution"),)
_KINDS = {"AutoencoderKL": _kl, "AutoencoderTiny": _tiny, "AutoencoderDC": _dc, "VQModel": _vq}


def _draw_codes(model: Any, sides: Sequence[int]) -> Encode:
    dim = model.config.vq_embed_dim or model.config.latent_channels

    def draw(codes: Tensor) -> Sequence[Tensor]:
        latents = model.quantize.get_codebook_entry(codes, (-1, *sides, dim))
        return [model.decode(latents, force_not_quantize=True).sample]

    return draw


def _scaling(config: Mapping[str, Any]) -> Sequence[Guess]:
    """The scale and the shift with which diffusers' pipelines hand latents on; none where each channel has its own."""
    if config.get("latents_mean") or config.get("latents_std"):
        own = "latents_mean and latents_std scale each channel, so latents are left as they are"
        return [Guess("latent_scale", 1.0, own)]
    scale, shift = config.get("scaling_factor"), config.get("shift_factor")
    return [
        Guess("latent_scale", scale or 1.0, "scaling_factor, with which pipelines hand latents on"),
        *([Guess("latent_shift", shift, "shift_factor")] if shift else []),
    ]
