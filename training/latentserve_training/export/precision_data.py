"""The data that lower-precision graphs are calibrated with and checked on."""

from __future__ import annotations

import numpy as np
import torch

from latentserve_training.data import Dataset, Split
from latentserve_training.evaluation.extractor import IMAGE_SHAPE, Extractor
from latentserve_training.export.plan import Arrays
from latentserve_training.export.precision import ConversionData, FidReference, LikelihoodReference
from latentserve_training.models import Vae
from latentserve_training.models.random_draws import reparameterize
from latentserve_training.models.vae import Posterior
from latentserve_training.run.trained_model import TrainedModel

_ROWS = 512
_REFERENCE_ROWS = 10_000
_CALIBRATION_SEED = 1
_HELD_OUT_SEED = 2


def conversion_data(role: str, trained: TrainedModel, dataset: Dataset) -> ConversionData:
    """The data for the graph of a role: calibrated with training images, checked on validation images.

    What is judged here decides which graphs a bundle has, so the test images, which are only reported on, take no part.
    An encoder gets 512 images. A decoder gets 512 draws from the prior, and of a VAE as many from the posteriors of
    images, with the images to explain; where the pinned extractor fits, also the latents of 10,000 samples, and as many
    training images (all, where there are fewer) to compare them with.
    """
    if role == "encoder":
        return ConversionData(
            calibration=_images(trained, dataset.train), held_out=_images(trained, dataset.validation)
        )
    return ConversionData(
        calibration=_latents(trained, dataset.train, _CALIBRATION_SEED),
        held_out=_latents(trained, dataset.validation, _HELD_OUT_SEED),
        fid_reference=_fid_reference(trained, dataset),
        likelihood_reference=_likelihood_reference(trained, dataset),
    )


def _images(trained: TrainedModel, split: Split) -> Arrays:
    images = split.images[:_ROWS].astype(np.float32) / 255
    return {"image": images, **_labels(trained, split, len(images))}


def _labels(trained: TrainedModel, split: Split, count: int) -> Arrays:
    labels = trained.model.labels_of(split.labels)
    return {} if labels is None else {"label": labels[:count].numpy()}


def _latents(trained: TrainedModel, split: Split, seed: int) -> Arrays:
    prior = _prior(trained, _ROWS, seed)
    if not isinstance(trained.model, Vae):
        return prior
    posterior = _posterior(trained.model, _images(trained, split))
    drawn = reparameterize(*posterior, generator=torch.Generator().manual_seed(seed)).numpy()
    both = {"latent": drawn, **_labels(trained, split, len(drawn))}
    return {name: np.concatenate([prior[name], both[name]]) for name in prior}


def _posterior(model: Vae, images: Arrays) -> Posterior:
    return model.encode(*(torch.from_numpy(array) for array in images.values()))


def _likelihood_reference(trained: TrainedModel, dataset: Dataset) -> LikelihoodReference | None:
    if not isinstance(trained.model, Vae):
        return None
    images = _images(trained, dataset.validation)
    means = _posterior(trained.model, images).mean.numpy()
    return LikelihoodReference(
        likelihood=trained.model.likelihood.name,
        images=torch.from_numpy(images["image"]),
        latents={"latent": means, **_labels(trained, dataset.validation, len(means))},
    )


def _prior(trained: TrainedModel, count: int, seed: int) -> Arrays:
    labels = trained.model.every_label(count)
    return {"latent": trained.latents(count, seed).numpy()} | ({} if labels is None else {"label": labels.numpy()})


def _fid_reference(trained: TrainedModel, dataset: Dataset) -> FidReference | None:
    if trained.model.image_shape != IMAGE_SHAPE:
        return None
    extractor = Extractor.read()
    real = extractor.features(torch.from_numpy(dataset.train.images[:_REFERENCE_ROWS]))
    return FidReference(extractor=extractor, real=real, samples=_prior(trained, _REFERENCE_ROWS, _HELD_OUT_SEED))
