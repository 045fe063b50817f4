"""What one model can answer, and what is said to a caller who asks for more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from latentserve.v1 import bundle_pb2, models_pb2
from latentserve_server.errors import CapabilityMissing
from latentserve_server.latent.prior import AS_THEY_ARE, Prior, SamplingSpec
from latentserve_server.model.kind import KINDS, NO_LIKELIHOOD, NO_PRIOR, PRIORS, Kind

_LACKING: Mapping[Prior, str] = MappingProxyType(
    {
        Prior.STANDARD_NORMAL: "the model's decoder was not made for N(0, I)",
        Prior.MIXTURE: "the model's bundle carries no mixture",
        Prior.GRAPH: "the model's bundle carries no prior graph",
    }
)


@dataclass(frozen=True, slots=True)
class Abilities:
    """The calls that one model answers, and what it samples from."""

    name: str
    kind: Kind
    capabilities: tuple[models_pb2.Capability, ...]
    priors: frozenset[Prior]
    """All that it can sample from."""
    default_sampling: SamplingSpec | None
    """What a call samples from that says nothing of it; None where the model does not sample."""

    @classmethod
    def of(cls, name: str, manifest: bundle_pb2.Manifest) -> Abilities:
        """Those of a model of this name and manifest."""
        kind, default = KINDS[manifest.kind], manifest.latent.prior
        priors = {default, *carried_priors(manifest)} - {NO_PRIOR}
        priors |= {bundle_pb2.PRIOR_STANDARD_NORMAL} if kind.is_normal else set()
        encodes = bool(kind.encodes)
        answered = {
            models_pb2.CAPABILITY_SAMPLE: bool(priors),
            models_pb2.CAPABILITY_ENCODE: encodes,
            models_pb2.CAPABILITY_DECODE: True,
            models_pb2.CAPABILITY_RECONSTRUCT: encodes,
            models_pb2.CAPABILITY_SCORE: encodes and manifest.likelihood != NO_LIKELIHOOD,
        }
        return cls(
            name,
            kind,
            tuple(capability for capability, is_answered in answered.items() if is_answered),
            frozenset(PRIORS[prior] for prior in priors),
            AS_THEY_ARE[PRIORS[default]] if default else None,
        )

    def check(self, capability: models_pb2.Capability) -> None:
        """Make sure that the model answers such calls.

        Raises:
            CapabilityMissing: it does not.
        """
        if capability not in self.capabilities:
            raise CapabilityMissing(f"model {self.name!r} is {self._why_not(capability)}")

    def check_posterior(self, field: str) -> None:
        """Make sure that there are posteriors to draw from, as the named field asks.

        Raises:
            CapabilityMissing: the encoder gives points.
        """
        if not self.kind.has_variances:
            raise CapabilityMissing(
                f"{field}: model {self.name!r} is {self.kind.noun}: it has no posterior to draw from"
            )

    def check_walks(self) -> None:
        """Make sure that there are latents between latents.

        Raises:
            CapabilityMissing: they are codes.
        """
        if self.kind.has_codes:
            raise CapabilityMissing(f"model {self.name!r} is {self.kind.noun}: there is no way between two codes")

    def prior_for(self, named: bundle_pb2.Prior) -> Prior:
        """The prior of this name, or the default where it is unspecified.

        Raises:
            CapabilityMissing: the model has none, or not this one.
        """
        self.check(models_pb2.CAPABILITY_SAMPLE)
        assert self.default_sampling is not None
        prior = PRIORS.get(named, self.default_sampling.prior)
        if prior not in self.priors:
            raise CapabilityMissing(f"prior: {_LACKING[prior]}")
        return prior

    def _why_not(self, capability: models_pb2.Capability) -> str:
        """What the model is, and that it cannot: "a GAN and cannot encode"."""
        verb = models_pb2.Capability.Name(capability).removeprefix("CAPABILITY_").lower()
        match capability:
            case models_pb2.CAPABILITY_SAMPLE:
                return f"{self.kind.noun} without a prior and cannot {verb}: {self.kind.cure}"
            case models_pb2.CAPABILITY_SCORE if self.kind.encodes:
                return f"{self.kind.noun} without a likelihood and cannot {verb}"
            case _:
                return f"{self.kind.noun} and cannot {verb}"


def carried_priors(manifest: bundle_pb2.Manifest) -> tuple[bundle_pb2.Prior, ...]:
    """The priors that the bundle has a file or a graph of."""
    is_there = {
        bundle_pb2.PRIOR_MIXTURE: manifest.latent.HasField("mixture"),
        bundle_pb2.PRIOR_GRAPH: any(graph.role == bundle_pb2.GRAPH_ROLE_PRIOR for graph in manifest.graphs),
    }
    return tuple(prior for prior in is_there if is_there[prior])
