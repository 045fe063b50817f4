"""Kinds of models: what graphs each has, what they take and give, and what its latents can be drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.latent.likelihood import LIKELIHOODS
from latentserve_server.latent.prior import Prior

NO_PRIOR, NO_LIKELIHOOD = pb.PRIOR_UNSPECIFIED, pb.LIKELIHOOD_UNSPECIFIED

PRIORS: Mapping[pb.Prior, Prior] = MappingProxyType(
    {
        pb.PRIOR_STANDARD_NORMAL: Prior.STANDARD_NORMAL,
        pb.PRIOR_MIXTURE: Prior.MIXTURE,
        pb.PRIOR_GRAPH: Prior.GRAPH,
    }
)
"""Those of the contract."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One kind of model."""

    noun: str
    """What a person calls it, with its article."""
    encodes: tuple[str, ...]
    """The encoder's outputs, of which the decoder takes the first; empty where there is no encoder."""
    decodes: str
    """The decoder's input of latents, and the output of a prior graph: "latent", or "codes" of a codebook."""
    priors: frozenset[pb.Prior]
    """What its default prior may be."""
    is_normal: bool
    """Whether the decoder is made for N(0, I), whatever the default is."""
    likelihoods: frozenset[pb.Likelihood]
    """What its likelihood may be."""
    cure: str = ""
    """What would let it sample, where it has no prior."""

    @property
    def roles(self) -> frozenset[pb.GraphRole]:
        """The graphs that it must have; it may have a prior, too."""
        encoder = {pb.GRAPH_ROLE_ENCODER} if self.encodes else set()
        return frozenset({pb.GRAPH_ROLE_DECODER, *encoder})

    @property
    def has_codes(self) -> bool:
        """Whether its latents are indices of a codebook, between which there is nothing."""
        return self.decodes == "codes"

    @property
    def has_variances(self) -> bool:
        """Whether its encoder gives distributions, and not points."""
        return "log_variance" in self.encodes


_ANY_PRIOR = frozenset(PRIORS)
_ANY_LIKELIHOOD = frozenset(LIKELIHOODS)

KINDS: Mapping[pb.ModelKind, Kind] = MappingProxyType(
    {
        pb.MODEL_KIND_VAE: Kind(
            noun="a VAE",
            encodes=("mean", "log_variance"),
            decodes="latent",
            priors=_ANY_PRIOR,
            is_normal=True,
            likelihoods=_ANY_LIKELIHOOD,
        ),
        pb.MODEL_KIND_GAN: Kind(
            noun="a GAN",
            encodes=(),
            decodes="latent",
            priors=_ANY_PRIOR,
            is_normal=True,
            likelihoods=frozenset({NO_LIKELIHOOD}),
        ),
        pb.MODEL_KIND_AUTOENCODER: Kind(
            noun="an autoencoder",
            encodes=("mean",),
            decodes="latent",
            priors=_ANY_PRIOR | {NO_PRIOR},
            is_normal=False,
            likelihoods=_ANY_LIKELIHOOD | {NO_LIKELIHOOD},
            cure="a mixture or a prior graph in its bundle would let it",
        ),
        pb.MODEL_KIND_VQ: Kind(
            noun="a vector-quantised autoencoder",
            encodes=("codes",),
            decodes="codes",
            priors=frozenset({NO_PRIOR, pb.PRIOR_GRAPH}),
            is_normal=False,
            likelihoods=_ANY_LIKELIHOOD | {NO_LIKELIHOOD},
            cure="a prior graph of its codes in its bundle would let it",
        ),
    }
)


def carried_priors(manifest: pb.Manifest) -> tuple[pb.Prior, ...]:
    """The priors that the bundle has a file or a graph of."""
    is_there = {
        pb.PRIOR_MIXTURE: manifest.latent.HasField("mixture"),
        pb.PRIOR_GRAPH: any(graph.role == pb.GRAPH_ROLE_PRIOR for graph in manifest.graphs),
    }
    return tuple(prior for prior in is_there if is_there[prior])
