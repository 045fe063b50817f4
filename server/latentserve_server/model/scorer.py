"""What scores reconstructions: those of a call, or of a whole batch in its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2
from latentserve_server.batching.batch import Graph
from latentserve_server.engine import Arrays, Cancellation
from latentserve_server.latent.likelihood import LIKELIHOODS, Likelihood
from latentserve_server.latent.scores import SCORES, Scores, score_at_mean, score_point
from latentserve_server.model.kind import KINDS
from latentserve_server.workers import INLINE_BYTES


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores images by what encoder and decoder made of them."""

    likelihood: Likelihood
    posterior: tuple[str, ...]
    """The encoder's outputs that say how a posterior is spread; none where it gives latents alone."""
    quantiles: NDArray[np.float64]
    """Those of the calibration; none where there is no calibration."""
    names: tuple[str, ...]
    """The scores that it computes, of `SCORES`."""
    in_run: tuple[str, ...]
    """Those that a run computes for its whole batch: all, or none of images that are for threads of their own."""

    @classmethod
    def of(cls, manifest: bundle_pb2.Manifest) -> Scorer | None:
        """That of a model; None where it has no likelihood."""
        likelihood = LIKELIHOODS.get(manifest.likelihood)
        if likelihood is None:
            return None
        image, kind = manifest.image, KINDS[manifest.kind]
        quantiles = np.array(manifest.calibration.negative_elbo_quantiles, np.float64)
        scores = ["reconstruction_error"]
        if kind.has_variances:
            scores += ["kl", "anomaly_percentile"] if len(quantiles) else ["kl"]
        is_small = 4 * image.channels * image.height * image.width < INLINE_BYTES
        posterior = kind.encodes if kind.has_variances else ()
        return cls(likelihood, posterior, quantiles, tuple(scores), tuple(scores) if is_small else ())

    @property
    def reads(self) -> tuple[str, ...]:
        """The outputs that scores are computed from."""
        return self.posterior + self.likelihood.outputs

    def score(self, images: NDArray[np.float32], made: Arrays, *, with_map: bool = False) -> Scores:
        """The scores of images [n, channels, height, width], of which `made` has the outputs that it reads."""
        if not self.posterior:
            return score_point(self.likelihood, images, made, with_map=with_map)
        mean, log_variance = made["mean"], made["log_variance"]
        return score_at_mean(self.likelihood, images, mean, log_variance, made, self.quantiles, with_map=with_map)


@dataclass(frozen=True, slots=True)
class ScoredGraph:
    """Encoder and decoder in a row, with the scores of the images that go in as outputs beside theirs.

    NumPy takes about as long for the nats of one small image as for those of ten, so what a call would pay for itself
    a batch pays once.
    """

    graph: Graph
    scorer: Scorer

    def run(self, inputs: Arrays, outputs: Sequence[str], cancellation: Cancellation) -> Arrays:
        """The named outputs for the rows of inputs; of the scores all that there are, if any is named.

        Raises:
            EngineFailure: the graph did not run, or was cancelled.
        """
        if SCORES.isdisjoint(outputs):
            return self.graph.run(inputs, outputs, cancellation)
        made = self.graph.run(inputs, sorted({*outputs, *self.scorer.reads} - SCORES), cancellation)
        with np.errstate(all="ignore"):  # a row on which the graph overflows is told to its own caller
            scores = self.scorer.score(inputs["image"], made)
        return {**made, **scores.by_name()}
