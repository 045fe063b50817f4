"""FID in Inception's features, of colour images."""

from __future__ import annotations

import torch
from torch import Tensor

from latentserve_training.data import Dataset
from latentserve_training.errors import ConfigError
from latentserve_training.evaluation.config import EvaluationConfig
from latentserve_training.evaluation.extractor.inception import CHANNELS, Inception
from latentserve_training.evaluation.fidelity import frechet_distance
from latentserve_training.evaluation.measurements import subset
from latentserve_training.evaluation.report import Measurement, Section

_REAL_IMAGES = 50_000
"""As many as published FIDs take at most."""


def inception_of(config: EvaluationConfig, dataset: Dataset) -> Inception | None:
    """The network whose weights `config` names; None where it names none.

    Raises:
        ConfigError: the images have no three colours, or the network's package is missing.
        DataError: the file is none of that digest and that network.
    """
    if config.inception_weights is None:
        return None
    channels = dataset.image_shape[0]
    if channels != CHANNELS:
        raise ConfigError(f"--inception-weights is for images of {CHANNELS} channels; these have {channels}")
    return Inception.read(config.inception_weights, config.inception_sha256)


def inception_fid(inception: Inception, dataset: Dataset, sets: dict[str, Tensor], config: EvaluationConfig) -> Section:
    """The Frechet distance of sets of images uint8 [n, 3, height, width], by name, from the training images."""
    training, test = (torch.from_numpy(split.images) for split in (dataset.train, dataset.test))
    real = inception.features(training[subset(_REAL_IMAGES, len(training), config.seed)])
    floor = test[subset(config.samples, len(test), config.seed)]
    measurements = {
        f"{name}_fid_inception": Measurement(
            value=frechet_distance(real, inception.features(images)),
            unit="squared features",
            count=len(images),
            seed=config.seed,
        )
        for name, images in {"floor": floor, **sets}.items()
    }
    protocol = (
        f"FID against {len(real):,} training images, in the {real.shape[1]:,} features of torch-fidelity's Inception "
        f"v3 with weights of SHA-256 `{inception.sha256}`: values compare only where the digest and the numbers of "
        f"images are the same, and never with the pinned LeNet's. Floor: {len(floor):,} real test images in the "
        "samples' place. FID falls with n; below 2,048 images the covariance is singular. Images are what is served, "
        "in 8 bits, enlarged to 299x299 as TensorFlow 1 did it."
    )
    return Section(title="Fidelity in Inception's features", protocol=protocol, measurements=measurements)
