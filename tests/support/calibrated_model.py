"""A tiny VAE that knows what ordinary images give, here images of random pixels, and images that are not ordinary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tiny_bundle import TinyModel

from latentserve.v1 import bundle_pb2 as pb

_IMAGES = 20_000


def write_calibrated(directory: Path, model: TinyModel, *, latents: bool = True) -> Path:
    """Write the bundle, with the calibration by images of random pixels, perhaps without that of the latents."""
    images = model.random_images(_IMAGES, seed=1) / 255
    mean, log_variance = model.posterior(images)
    logits = model.logits(mean)
    error = (np.logaddexp(0, logits) - images * logits).sum(axis=(1, 2, 3))
    negative_elbo = error + 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1)

    def calibrate(manifest: pb.Manifest) -> None:
        calibration = manifest.calibration
        calibration.negative_elbo_quantiles.extend(np.quantile(negative_elbo, np.linspace(0, 1, 101)))
        calibration.images = len(images)
        if latents:
            calibration.latent_means.extend(mean.mean(axis=0))
            calibration.latent_variances.extend(mean.var(axis=0))

    return model.write(directory, edit_manifest=calibrate)


def bright_images(model: TinyModel, rows: int, seed: int = 0) -> NDArray[np.uint8]:
    """Images of random pixels, uint8 [rows, channels, height, width], of which none is dark."""
    return np.random.default_rng(seed).integers(128, 256, (rows, *model.shape), np.uint8)
