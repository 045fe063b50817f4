"""The model families, one file each, with a frozen configuration beside every model."""

from __future__ import annotations

from latentserve_training.models.cgan import CganConfig, build_cgan
from latentserve_training.models.conv_gan import build_conv_gan
from latentserve_training.models.conv_vae import ConvVaeConfig, build_conv_vae
from latentserve_training.models.cvae import CvaeConfig, build_cvae
from latentserve_training.models.dcgan import DcganConfig
from latentserve_training.models.gan import Gan
from latentserve_training.models.mlp_gan import MlpGanConfig, build_mlp_gan
from latentserve_training.models.mlp_vae import MlpVaeConfig, build_mlp_vae
from latentserve_training.models.model import Batch, GenerativeModel, ImageShape, Phase, Validation
from latentserve_training.models.vae import Posterior, Vae, active_latents
from latentserve_training.models.wgan_gp import WganGpConfig

ModelConfig = ConvVaeConfig | MlpVaeConfig | CvaeConfig | MlpGanConfig | DcganConfig | WganGpConfig | CganConfig

FAMILIES: dict[str, type[ModelConfig]] = {
    "conv_vae": ConvVaeConfig,
    "mlp_vae": MlpVaeConfig,
    "cvae": CvaeConfig,
    "mlp_gan": MlpGanConfig,
    "dcgan": DcganConfig,
    "wgan_gp": WganGpConfig,
    "cgan": CganConfig,
}

__all__ = [
    "FAMILIES",
    "Batch",
    "CganConfig",
    "ConvVaeConfig",
    "CvaeConfig",
    "DcganConfig",
    "Gan",
    "GenerativeModel",
    "ImageShape",
    "MlpGanConfig",
    "MlpVaeConfig",
    "ModelConfig",
    "Phase",
    "Posterior",
    "Vae",
    "Validation",
    "WganGpConfig",
    "active_latents",
    "build",
]


def build(config: ModelConfig, image_shape: ImageShape, label_count: int = 0) -> GenerativeModel:
    """The model that `config` describes, for images of `image_shape`, with weights from torch's global generator.

    `label_count` is the number of labels that the data has; the conditional families need them.

    Raises:
        ConfigError: the family cannot handle images of that shape, or needs labels where there are none.
    """
    match config:
        case ConvVaeConfig():
            return build_conv_vae(config, image_shape)
        case MlpVaeConfig():
            return build_mlp_vae(config, image_shape)
        case MlpGanConfig():
            return build_mlp_gan(config, image_shape)
        case CvaeConfig():
            return build_cvae(config, image_shape, label_count)
        case DcganConfig() | WganGpConfig():
            return build_conv_gan(config.family, config, image_shape)
        case CganConfig():
            return build_cgan(config, image_shape, label_count)
