"""What a model's graphs take of the rows of calls: latents, noise, psi and labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from latentserve.v1 import bundle_pb2
from latentserve_server.batching.batch import Inputs
from latentserve_server.latent.labels import Int64
from latentserve_server.latent.noise import Draw, NoiseSource
from latentserve_server.latent.noise_inputs import NoiseInputs
from latentserve_server.latent.prior import STANDARD_NORMAL, Prior, PriorSource, SamplingSpec
from latentserve_server.latent.psi import Psi
from latentserve_server.model.requests import SampleRequest

T = TypeVar("T")

_DECODER, _PRIOR = bundle_pb2.GRAPH_ROLE_DECODER, bundle_pb2.GRAPH_ROLE_PRIOR
_PSI = "psi"


class GraphInputs:
    """Makes the inputs of one model's graphs."""

    __slots__ = ("_known_labels", "_latent_dim", "_noise", "_noise_inputs", "_prior", "_prior_noise", "psi")

    def __init__(
        self, manifest: bundle_pb2.Manifest, prior: PriorSource, noise: NoiseSource, noise_inputs: NoiseInputs | None
    ) -> None:
        """`noise_inputs` are the decoder's, or None."""
        asked = manifest.psi
        self.psi = Psi(asked.default_value, asked.min_value, asked.max_value) if manifest.HasField("psi") else None
        """The decoder's; None where it takes none."""
        self._latent_dim = manifest.latent.dim
        self._known_labels = manifest.labels.count
        self._prior = prior
        self._prior_noise = PriorSource(noise, manifest.latent.noise_dim, None)
        self._noise = noise
        self._noise_inputs = noise_inputs

    def of_sample(self, request: SampleRequest) -> tuple[bundle_pb2.GraphRole, Inputs, Int64 | None]:
        """The graph that a sample begins with, the decoder or the prior graph before it; their inputs; and the labels
        of the rows, which are among these.
        """
        rows, seed, first_index = request.rows, request.seed, request.first_index
        role = _DECODER
        if request.sampling is STANDARD_NORMAL:
            inputs: Inputs = {"latent": Draw(self._noise, self._latent_dim, seed, first_index, rows)}
        else:
            role, inputs = self._of_prior(request)
        if self._noise_inputs is not None:
            inputs = {**inputs, **self._noise_inputs.drawn(seed, first_index, rows)}
        if self.psi is not None:
            inputs = {**inputs, _PSI: self.psi.rows(rows, request.psi)}
        labels = request.labels.of_indices(first_index, rows) if self._known_labels else None
        return role, labelled(inputs, labels), labels

    def completed(self, inputs: Inputs) -> Inputs:
        """The inputs of rows whose latents are given, with the noise and the psi that the decoder takes beside them."""
        rows = len(next(iter(inputs.values())))
        if self._noise_inputs is not None:
            inputs = {**inputs, **self._noise_inputs.of_given_latents(rows)}
        if self.psi is not None and _PSI not in inputs:
            inputs = {**inputs, _PSI: self.psi.rows(rows)}
        return inputs

    def _of_prior(self, request: SampleRequest) -> tuple[bundle_pb2.GraphRole, Inputs]:
        """What draws images from another prior than N(0, I) as it is, and from which noise."""
        sampling, where = request.sampling, (request.seed, request.first_index, request.rows)
        if sampling.prior is not Prior.GRAPH:
            return _DECODER, {"latent": Draw(self._noise, self._latent_dim, *where, self._prior.shaped(sampling))}
        plain = sampling.shaping == STANDARD_NORMAL.shaping
        noise = None if plain else self._prior_noise.shaped(SamplingSpec(shaping=sampling.shaping))
        return _PRIOR, {"noise": Draw(self._noise, self._prior_noise.dim, *where, noise)}


def labelled(inputs: Mapping[str, T], labels: Int64 | None) -> Mapping[str, T | Int64]:
    """The inputs, with the labels of their rows where there are any."""
    return inputs if labels is None else {**inputs, "label": labels}
