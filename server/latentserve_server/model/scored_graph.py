"""A reconstruction that knows its scores: they are computed in the run, for all rows of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentserve.v1 import bundle_pb2
from latentserve_server.batching.batch import Graph
from latentserve_server.engine import Arrays, Cancellation
from latentserve_server.latent.likelihood import LIKELIHOODS, Likelihood
from latentserve_server.latent.scores import SCORES, score_at_mean, score_point
from latentserve_server.model.kind import KINDS


def scored(manifest: bundle_pb2.Manifest, graph: Graph) -> Graph:
    """The encoder and decoder of a model in a row, with the scores that it has; the graph itself where it has none."""
    likelihood = LIKELIHOODS.get(manifest.likelihood)
    if likelihood is None:
        return graph
    quantiles = manifest.calibration.negative_elbo_quantiles
    return ScoredGraph(graph, likelihood, KINDS[manifest.kind].has_variances, quantiles)


@dataclass(frozen=True, slots=True)
class ScoredGraph:
    """Encoder and decoder in a row, with the scores of the images that go in as outputs beside theirs.

    NumPy takes about as long for the nats of one small image as for those of ten, so what a call would pay for itself
    a batch pays once.
    """

    graph: Graph
    likelihood: Likelihood
    has_variances: bool
    """Whether the encoder gives posteriors, and not latents alone."""
    quantiles: Sequence[float]
    """Those of the calibration; empty where there is none."""

    def run(self, inputs: Arrays, outputs: Sequence[str], cancellation: Cancellation) -> Arrays:
        """The named outputs for the rows of inputs; of the scores all that there are, if any is named.

        Raises:
            EngineFailure: the graph did not run, or was cancelled.
        """
        if SCORES.isdisjoint(outputs):
            return self.graph.run(inputs, outputs, cancellation)
        posterior = ("mean", "log_variance") if self.has_variances else ()
        computed = sorted({*outputs, *self.likelihood.outputs, *posterior} - SCORES)
        made = self.graph.run(inputs, computed, cancellation)
        images = inputs["image"]
        with np.errstate(all="ignore"):  # a row on which the graph overflows is told to its own caller
            scores = (
                score_at_mean(self.likelihood, images, made["mean"], made["log_variance"], made, self.quantiles)
                if self.has_variances
                else score_point(self.likelihood, images, made)
            )
        return {**made, **scores.by_name()}
