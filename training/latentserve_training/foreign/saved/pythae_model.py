"""Autoencoders that pythae saved."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from latentserve_training.errors import ConfigError, ExportError
from latentserve_training.foreign.guess.draft import Guess
from latentserve_training.foreign.saved.library import at_work, first_line, load_library, read_settings
from latentserve_training.foreign.saved.request import SavedRequest
from latentserve_training.foreign.saved.saved_model import MIXTURE, Array, SavedModel, latent_size
from latentserve_training.foreign.saved.torch_network import torch_network

_NORMAL = (
    *("VAE", "BetaVAE", "DisentangledBetaVAE", "FactorVAE", "BetaTCVAE", "IWAE", "MIWAE", "PIWAE", "CIWAE", "HVAE"),
    *("INFOVAE_MMD", "MSSSIM_VAE", "VAEGAN", "Adversarial_AE"),
)
"""Gaussian posteriors and the prior N(0, I)."""
_PLAIN = {"AE": "none", "RAE_GP": "none", "RAE_L2": "none", "WAE_MMD": "standard_normal"}
"""Encoders that give one latent, and the prior that latents were drawn towards."""
_WITHOUT_LIKELIHOOD = ("MSSSIM_VAE", "VAEGAN")
_KNOWN = (*_NORMAL, "VAMP", *_PLAIN, "VQVAE")
_HALF = "half of the squared error is a Gaussian of scale 1"

Encode = Callable[[Tensor], Sequence[Tensor]]


def open_pythae(request: SavedRequest) -> SavedModel:
    """The model in the folder that `save` wrote. No pickled code runs.

    Raises:
        ConfigError: pythae is missing, the folder is none of a known model, or its networks' classes are needed.
        ExportError: pythae cannot load it.
    """
    path = request.path
    settings = read_settings(path, "model_config.json", "save of pythae")
    name = str(settings.get("name", "")).removesuffix("Config").removesuffix("_")
    if name not in _KNOWN:
        file, found = path / "model_config.json", name or "a model without a name"
        raise ConfigError(f"{file}: it is of {found}; known are {', '.join(_KNOWN)}")
    _check_pickles(request, settings)
    model = _load(load_library("pythae", "pythae.models"), name, request)
    with at_work(f"{path}: pythae cannot run it"), torch.no_grad():
        return _opened(model, name)


def _check_pickles(request: SavedRequest, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError where a network of the model lies in a pickle, and no class is given for it."""
    flag = "uses_default_"
    own = [key.removeprefix(flag) for key, default in settings.items() if key.startswith(flag) and not default]
    for role in own:
        if role not in ("encoder", "decoder"):
            raise ConfigError(f"{request.path}: its {role} is a pickle, whose code would run; it is not loaded")
        if getattr(request, f"{role}_class") is None:
            raise ConfigError(
                f"{request.path}: its {role} lies in {role}.pkl, whose code would run as it is loaded; "
                f"name its class in the place of that: --{role}-class MODULE:CLASS"
            )
    for role in ("encoder", "decoder"):
        if getattr(request, f"{role}_class") is not None and role not in own:
            raise ConfigError(f"--{role}-class is for a model with a network of your own; {request.path} has pythae's")


def _load(models: Any, name: str, request: SavedRequest) -> Any:
    classes = {role: getattr(request, f"{role}_class") for role in ("encoder", "decoder")}
    with at_work(f"{request.path}: pythae cannot load it"):
        if not any(classes.values()):
            return getattr(models, name).load_from_folder(str(request.path)).eval()
        config = load_library("pythae", "pythae.models.auto_model").AutoConfig.from_json_file(
            str(request.path / "model_config.json")
        )
        networks = {role: _class(role, named)(config) for role, named in classes.items() if named}
        model = getattr(models, name)(config, **networks)
        kept = torch.load(request.path / "model.pt", map_location="cpu", weights_only=True)
        model.load_state_dict(kept["model_state_dict"])
        return model.eval()


def _class(role: str, named: str) -> Any:
    """The class that MODULE:CLASS names, of a module on Python's path."""
    module, _, name = named.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"--{role}-class is {named}; {first_line(error)}") from error


def _opened(model: Any, name: str) -> SavedModel:
    config = model.model_config
    images = torch.zeros(2, *config.input_dim)
    encode, outputs = _encode_of(model, name, images)
    latents = encode(images)[0]
    draw = _draw_codes(model) if name == "VQVAE" else lambda z: [model.decoder(z).reconstruction]
    stated = [
        *_kind(config, name, outputs),
        latent_size(latents.shape[1:], "what the encoder gives"),
        Guess("family", f"pythae {name}", "the class that model_config.json names"),
    ]
    if len(config.input_dim) == 3:
        stated += [
            Guess("image_shape", list(config.input_dim), "input_dim"),
            Guess("layout", "nchw", "pythae's input_dim has channels first"),
        ]
    return SavedModel(
        stated=stated,
        decoder=torch_network(model, draw, latents, ("image",)),
        encoder=torch_network(model, encode, images, outputs),
        mixture=_mixture(model) if name == "VAMP" else None,
    )


def _encode_of(model: Any, name: str, images: Tensor) -> tuple[Encode, tuple[str, ...]]:
    if name == "VQVAE":
        return lambda x: [_quantised(model, x)], ("codes",)
    plain = name in _PLAIN or getattr(model.model_config, "deterministic_posterior", False)
    if plain:
        return lambda x: [model.encoder(x).embedding], ("mean",)
    if "log_covariance" not in model.encoder(images):
        raise ExportError(f"encoder: it gives no log_covariance, as that of a pythae {name} does")

    def encode(x: Tensor) -> Sequence[Tensor]:
        found = model.encoder(x)
        return found.embedding, found.log_covariance

    return encode, ("mean", "log_variance")


def _kind(config: Any, name: str, outputs: tuple[str, ...]) -> Sequence[Guess]:
    """Kind, prior and likelihood, as the model's loss has them."""
    if name == "VQVAE":
        return [
            Guess("kind", "vq", "a VQVAE encodes to entries of a codebook"),
            Guess("codes", config.num_embeddings, "num_embeddings"),
            Guess("prior", "none", "pythae fits one afterwards; a server decodes and encodes, and does not sample"),
        ]
    if outputs == ("mean",):
        kind = Guess("kind", "autoencoder", f"the encoder of a {name} gives one latent, and no distribution")
        if _PLAIN.get(name) == "none":
            without = f"a {name} has none of its own; a server decodes and encodes, and does not sample"
            return [kind, Guess("prior", "none", without)]
        return [kind, Guess("prior", "standard_normal", f"latents of a {name} are drawn towards N(0, I)")]
    kind = Guess("kind", "vae", f"the encoder of a {name} gives a mean and a log-covariance")
    prior = Guess("prior", "standard_normal", f"that of a {name} in pythae")
    if name == "VAMP":
        prior = Guess("prior", {"mixture": MIXTURE}, "the mixture of the posteriors of its pseudo-inputs")
    return [kind, prior, *_likelihood(config, name)]


def _likelihood(config: Any, name: str) -> Sequence[Guess]:
    """The likelihood that the reconstruction's loss stands for."""
    if name in _WITHOUT_LIKELIHOOD:
        return [
            Guess("likelihood", "gaussian", f"a {name} has none of pixels; taken as the squared error"),
            Guess("log_scale", 0, _HALF),
        ]
    loss = f"reconstruction_loss is {config.reconstruction_loss}"
    if config.reconstruction_loss == "bce":
        return [Guess("likelihood", "bernoulli", loss)]
    return [Guess("likelihood", "gaussian", loss), Guess("log_scale", 0, _HALF)]


def _quantised(model: Any, images: Tensor) -> Tensor:
    """Codes [batch, height, width]; of an encoder that gives rows [batch, 1, numbers of a row]."""
    found = model.encoder(images).embedding
    found = found[:, None, None] if found.ndim == 2 else found
    codes: Tensor = model.quantizer(found.permute(0, 2, 3, 1)).quantized_indices
    return codes.squeeze(1)


def _draw_codes(model: Any) -> Encode:
    book = model.quantizer.embeddings
    rows = model.encoder(torch.zeros(1, *model.model_config.input_dim)).embedding.ndim == 2

    def draw(codes: Tensor) -> Sequence[Tensor]:
        latents = functional.embedding(codes, getattr(book, "weight", book)).permute(0, 3, 1, 2)
        return [model.decoder(latents.flatten(1) if rows else latents).reconstruction]

    return draw


def _mixture(model: Any) -> Mapping[str, Array]:
    """The mixture of the posteriors of VAMP's pseudo-inputs (Tomczak and Welling 2018, equation 9)."""
    config = model.model_config
    inputs = model.pseudo_inputs(model.idle_input).reshape(-1, *config.input_dim)
    found = model.encoder(inputs)
    means, deviations = found.embedding.double().numpy(), found.log_covariance.double().mul(0.5).exp().numpy()
    factors = deviations[:, :, None] * np.eye(means.shape[1])
    return {"weights": np.full(len(means), 1 / len(means)), "means": means, "factors": factors}
