"""The model families: one file each, a frozen configuration beside every model."""

from __future__ import annotations

from latentserve_training.models.conv_vae import ConvVaeConfig, build_conv_vae
from latentserve_training.models.gan import Gan
from latentserve_training.models.mlp_gan import MlpGanConfig, build_mlp_gan
from latentserve_training.models.mlp_vae import MlpVaeConfig, build_mlp_vae
from latentserve_training.models.model import Batch, GenerativeModel, ImageShape, Phase
from latentserve_training.models.vae import Posterior, Vae

ModelConfig = ConvVaeConfig | MlpVaeConfig | MlpGanConfig

FAMILIES: dict[str, type[ModelConfig]] = {
    "conv_vae": ConvVaeConfig,
    "mlp_vae": MlpVaeConfig,
    "mlp_gan": MlpGanConfig,
}

__all__ = [
    "FAMILIES",
    "Batch",
    "ConvVaeConfig",
    "Gan",
    "GenerativeModel",
    "ImageShape",
    "MlpGanConfig",
    "MlpVaeConfig",
    "ModelConfig",
    "Phase",
    "Posterior",
    "Vae",
    "build",
]


def build(config: ModelConfig, image_shape: ImageShape, label_count: int = 0) -> GenerativeModel:
    """The model that `config` describes, for images of `image_shape`, with weights from torch's global generator.

    `label_count` is the number of labels that the data has; the conditional families need them.

    Raises:
        ConfigError: the family cannot handle images of that shape.
    """
    match config:
        case ConvVaeConfig():
            return build_conv_vae(config, image_shape)
        case MlpVaeConfig():
            return build_mlp_vae(config, image_shape)
        case MlpGanConfig():
            return build_mlp_gan(config, image_shape)
