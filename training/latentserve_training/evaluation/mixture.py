"""A Gaussian mixture fitted to a VAE's aggregate posterior, as a prior to sample from."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from latentserve_training.errors import RunError

COMPONENTS = 10
MOST_DIMENSIONS = 2048
"""A covariance has the square of as many values, and a step of the fit takes time in proportion."""
_ROWS_A_DIMENSION = 5
_LEAST_VARIANCE = 1e-4
_STARTS = 3
_ITERATIONS = 20
_TOLERANCE = 0.05


@dataclass(frozen=True)
class Mixture:
    """sum_k weights[k] N(means[k], factors[k] factors[k]^T)."""

    weights: NDArray[np.float64]
    """[k], positive with sum 1."""
    means: NDArray[np.float32]
    """[k, dim]."""
    factors: NDArray[np.float32]
    """[k, dim, dim], the covariances' lower triangular Cholesky factors."""

    @classmethod
    def fit(cls, latents: NDArray[np.float32], means: NDArray[np.float32], seed: int) -> Self:
        """Fit to `latents` by expectation maximisation, until a step gains less than 0.05 nats a latent.

        Both are [n, dim]: draws of posteriors, and the posteriors' means. It starts from a seeded k-means of the means:
        the noise of the draws, as wide as the prior in every inactive latent, hides from k-means what belongs together.
        Ten components with full covariances, or fewer where one would be left with less than 5 dim latents. Every
        variance is raised by 1e-4, so that a latent that never varies does no harm.
        """
        # A second of imports, which exports do without: they only load a mixture.
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        count, dim = latents.shape
        components = max(1, min(COMPONENTS, count // (_ROWS_A_DIMENSION * dim)))
        ridge = _LEAST_VARIANCE * np.eye(dim)
        exact = latents.astype(np.float64)  # float32 loses the definiteness of covariances along few directions
        with warnings.catch_warnings():
            # Means that are all the same make fewer clusters. Twenty steps are enough: what is left to gain is less
            # than what the choice of the start makes.
            warnings.simplefilter("ignore", ConvergenceWarning)
            clusters = KMeans(components, n_init=_STARTS, random_state=seed).fit_predict(means)
            groups = [exact[clusters == cluster] for cluster in np.unique(clusters)]
            model = GaussianMixture(
                len(groups),
                weights_init=np.array([len(group) for group in groups]) / count,
                means_init=np.stack([group.mean(0) for group in groups]),
                precisions_init=np.stack([_inverse(np.cov(group.T, bias=True) + ridge) for group in groups]),
                reg_covar=_LEAST_VARIANCE,
                max_iter=_ITERATIONS,
                tol=_TOLERANCE,
                random_state=seed,
            )
            model.fit(exact)
        weights = model.weights_.astype(np.float64)
        return cls(
            weights=weights / weights.sum(),
            means=model.means_.astype(np.float32),
            factors=np.linalg.cholesky(model.covariances_.astype(np.float64)).astype(np.float32),
        )

    @property
    def components(self) -> int:
        """Number of Gaussians."""
        return len(self.weights)

    def sample(self, count: int, seed: int) -> NDArray[np.float32]:
        """`count` latents float32 [count, dim], all randomness from `seed`."""
        rng = np.random.default_rng(seed)
        chosen = rng.choice(self.components, size=count, p=self.weights)
        noise = rng.standard_normal((count, self.means.shape[1]), dtype=np.float32)
        latents = self.means[chosen]
        for component in range(self.components):
            rows = chosen == component
            latents[rows] += noise[rows] @ self.factors[component].T
        return latents

    def save(self, path: Path) -> None:
        """Write the safetensors file that a bundle takes: "weights", "means" and "factors"."""
        arrays = {"weights": self.weights, "means": self.means, "factors": self.factors}
        # The library would write a file that its owner alone may read.
        path.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The mixture in `path`.

        Raises:
            RunError: the file is not one that `save` wrote.
        """
        try:
            arrays = load_file(path)
            return cls(arrays["weights"], arrays["means"], arrays["factors"])
        except (OSError, SafetensorError, KeyError) as error:
            raise RunError(f"{path}: not a mixture; run latentserve-evaluate again") from error


def _inverse(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric and positive definite to the last bit, as scikit-learn demands; a plain inverse need not be."""
    values, vectors = np.linalg.eigh(covariance)
    inverse = (vectors / values.clip(min=_LEAST_VARIANCE)) @ vectors.T
    return np.asarray((inverse + inverse.T) / 2)
