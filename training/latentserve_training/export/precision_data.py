"""The data that a graph's conversion is calibrated with and judged on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from latentserve_training.data import Dataset, Split
from latentserve_training.evaluation.extractor import IMAGE_SHAPE, Extractor
from latentserve_training.evaluation.fidelity import frechet_distance
from latentserve_training.export.plan import Arrays
from latentserve_training.export.sessions import run_in_batches
from latentserve_training.models import Vae
from latentserve_training.models.likelihood import LikelihoodName
from latentserve_training.models.losses import bernoulli_nll, discretized_logistic_nll, gaussian_nll
from latentserve_training.models.random_draws import reparameterize
from latentserve_training.models.vae import Posterior
from latentserve_training.run.trained_model import TrainedModel

_ROWS = 512
_REFERENCE_ROWS = 10_000
_CALIBRATION_SEED = 1
_HELD_OUT_SEED = 2


@dataclass(frozen=True, kw_only=True)
class FidReference:
    """Real features and sampled inputs, with which a decoder's FID is measured."""

    extractor: Extractor
    real: torch.Tensor
    """Features of real images, [n, 84]."""
    samples: Arrays
    """The decoder's inputs for at least as many images as there are features."""

    def distance(self, images: NDArray[np.uint8]) -> float:
        """The Frechet distance of images uint8 [n, 1, 28, 28] from the real ones."""
        return frechet_distance(self.real, self.extractor.features(torch.from_numpy(images)))


@dataclass(frozen=True, kw_only=True)
class LikelihoodReference:
    """Images and their latents, on which a decoder's likelihood is measured as the server scores images."""

    likelihood: LikelihoodName
    images: torch.Tensor
    """[n, channels, height, width] in [0, 1]."""
    latents: Arrays
    """The decoder's inputs that the encoder finds for them, a row an image."""

    def nll(self, session: onnxruntime.InferenceSession) -> torch.Tensor:
        """-log p(x|z) of the images by the decoder in `session`, in nats, float64 [n]."""
        if self.likelihood == "bernoulli":
            logits = torch.from_numpy(run_in_batches(session, "logits", self.latents))
            return bernoulli_nll(logits, self.images).double()
        mean, log_scale = (
            torch.from_numpy(run_in_batches(session, name, self.latents)) for name in ("image", "log_scale")
        )
        nll = gaussian_nll if self.likelihood == "gaussian" else discretized_logistic_nll
        return nll(mean, log_scale, self.images).double()


@dataclass(frozen=True, kw_only=True)
class ConversionData:
    """A graph's inputs for calibrating and checking its conversion."""

    calibration: Arrays
    """Typical inputs, from which the ranges of int8 activations are taken."""
    held_out: Arrays
    """As many other inputs, on which the conversion is checked."""
    fid_reference: FidReference | None = None
    """Given for a decoder of images that the pinned extractor knows."""
    likelihood_reference: LikelihoodReference | None = None
    """Given for a VAE's decoder."""


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
