"""A dense VAE, by default with two latents, so that all of its latent space can be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from latentserve_training.models.checks import require_positive
from latentserve_training.models.model import ImageShape
from latentserve_training.models.vae import Vae, VaeConfig


@dataclass(frozen=True, kw_only=True)
class MlpVaeConfig(VaeConfig):
    """A dense VAE for images of any size."""

    family: Literal["mlp_vae"] = "mlp_vae"
    """The model family."""

    latent_dim: int = 2
    """Number of latent dimensions."""

    wide: int = 512
    """Units of the layers next to the image."""

    narrow: int = 256
    """Units of the layers next to the latents."""

    activation: Literal["relu", "tanh"] = "relu"
    """Between layers. Two tanh layers of 200 units around 50 latents are the network of Burda et al. 2015."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "latent_dim", "wide", "narrow")


def build_mlp_vae(config: MlpVaeConfig, image_shape: ImageShape) -> Vae:
    """An mlp_vae with fresh weights."""
    pixels = math.prod(image_shape)
    activation = nn.Tanh if config.activation == "tanh" else nn.ReLU
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_features=pixels, out_features=config.wide),
        activation(),
        nn.Linear(in_features=config.wide, out_features=config.narrow),
        activation(),
        nn.Linear(in_features=config.narrow, out_features=2 * config.latent_dim),
    )
    decoder = nn.Sequential(
        nn.Linear(in_features=config.latent_dim, out_features=config.narrow),
        activation(),
        nn.Linear(in_features=config.narrow, out_features=config.wide),
        activation(),
        nn.Linear(in_features=config.wide, out_features=pixels),
        nn.Unflatten(dim=1, unflattened_size=image_shape),
    )
    return Vae(
        image_shape=image_shape,
        latent_dim=config.latent_dim,
        encoder=encoder,
        decoder=decoder,
        learning_rate=config.learning_rate,
        likelihood=config.likelihood,
        objective=config.objective,
    )
