"""Samples as a model takes them, from plain values, each checked as those of calls are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentserve.v1 import bundle_pb2
from latentserve_server.errors import InvalidArgument
from latentserve_server.latent.labels import NO_LABELS, Labels
from latentserve_server.latent.noise import check_indices
from latentserve_server.latent.prior import AS_THEY_ARE, NoiseTransform, SamplingSpec
from latentserve_server.latent.psi import Psi
from latentserve_server.model.requests import FLOAT32_PIXELS, SampleRequest
from latentserve_server.offline.version import FoundVersion

_PRIORS = {
    "standard-normal": bundle_pb2.PRIOR_STANDARD_NORMAL,
    "mixture": bundle_pb2.PRIOR_MIXTURE,
    "graph": bundle_pb2.PRIOR_GRAPH,
}
PRIOR_NAMES = tuple(_PRIORS)
"""What a prior may be called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """What is drawn of a seed, whatever its rows. None: as the model has it."""

    seed: int
    prior: str | None = None
    """One of `PRIOR_NAMES`."""
    temperature: float | None = None
    truncation: float | None = None
    psi: float | None = None
    labels: tuple[int, ...] = ()
    """In turn, by index; none: all that the model knows."""


def sample_request(
    found: FoundVersion, draws: Draws, first_index: int, rows: int, form: str = FLOAT32_PIXELS
) -> SampleRequest:
    """Rows `first_index` to `first_index + rows - 1`, as the output `form` of the decoder.

    Raises:
        CapabilityMissing: the model does not sample, or not from this prior. InvalidArgument: a value is not allowed.
    """
    prior = found.abilities.prior_for(_PRIORS[draws.prior] if draws.prior else bundle_pb2.PRIOR_UNSPECIFIED)
    temperature = 1.0 if draws.temperature is None else draws.temperature
    is_plain = draws.temperature is None and draws.truncation is None
    shaped = NoiseTransform(temperature, draws.truncation)
    check_indices("first_index", first_index, rows)
    if draws.psi is not None:
        _check_psi(found.manifest, draws.psi)
    return SampleRequest(
        rows,
        draws.seed,
        first_index,
        form,
        AS_THEY_ARE[prior] if is_plain else SamplingSpec(prior, shaped),
        labels_of(found, draws.labels),
        psi=draws.psi,
    )


def labels_of(found: FoundVersion, labels: Sequence[int]) -> Labels:
    """Labels that the model knows.

    Raises:
        InvalidArgument: it does not know one, or has none.
    """
    known = found.manifest.labels.count
    return Labels(tuple(labels), known) if known or labels else NO_LABELS


def _check_psi(manifest: bundle_pb2.Manifest, psi: float) -> None:
    if not manifest.HasField("psi"):
        raise InvalidArgument("psi", "the model's decoder takes none")
    asked = manifest.psi
    Psi(asked.default_value, asked.min_value, asked.max_value).check("psi", np.asarray(psi, np.float32))
