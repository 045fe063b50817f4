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
    has_variances: bool = False
    """Whether its encoder gives distributions, and not points."""
    decodes: str
    """The decoder's input of latents, and the output of a prior graph: "latent", or "codes" of a codebook."""
    has_codes: bool = False
    """Whether its latents are indices of a codebook, between which there is nothing."""
    roles: frozenset[pb.GraphRole]
    """The graphs that it must have; it may have a prior, too."""
    priors: frozenset[pb.Prior]
    """What its default prior may be."""
    is_normal: bool
    """Whether the decoder is made for N(0, I), whatever the default is."""
    likelihoods: frozenset[pb.Likelihood]
    """What its likelihood may be."""
    cure: str = ""
    """What would let it sample, where it has no prior."""


_ENCODER_AND_DECODER = frozenset({pb.GRAPH_ROLE_ENCODER, pb.GRAPH_ROLE_DECODER})
_ANY_PRIOR = frozenset(PRIORS)
_ANY_LIKELIHOOD = frozenset(LIKELIHOODS)

KINDS: Mapping[pb.ModelKind, Kind] = MappingProxyType(
    {
        pb.MODEL_KIND_VAE: Kind(
            noun="a VAE",
            encodes=("mean", "log_variance"),
            has_variances=True,
            decodes="latent",
            roles=_ENCODER_AND_DECODER,
            priors=_ANY_PRIOR,
            is_normal=True,
            likelihoods=_ANY_LIKELIHOOD,
        ),
        pb.MODEL_KIND_GAN: Kind(
            noun="a GAN",
            encodes=(),
            decodes="latent",
            roles=frozenset({pb.GRAPH_ROLE_DECODER}),
            priors=_ANY_PRIOR,
            is_normal=True,
            likelihoods=frozenset({NO_LIKELIHOOD}),
        ),
        pb.MODEL_KIND_AUTOENCODER: Kind(
            noun="an autoencoder",
            encodes=("mean",),
            decodes="latent",
            roles=_ENCODER_AND_DECODER,
            priors=_ANY_PRIOR | {NO_PRIOR},
            is_normal=False,
            likelihoods=_ANY_LIKELIHOOD | {NO_LIKELIHOOD},
            cure="a mixture or a prior graph in its bundle would let it",
        ),
        pb.MODEL_KIND_VQ: Kind(
            noun="a vector-quantised autoencoder",
            encodes=("codes",),
            decodes="codes",
            has_codes=True,
            roles=_ENCODER_AND_DECODER,
            priors=frozenset({NO_PRIOR, pb.PRIOR_GRAPH}),
            is_normal=False,
            likelihoods=_ANY_LIKELIHOOD | {NO_LIKELIHOOD},
            cure="a prior graph of its codes in its bundle would let it",
        ),
    }
)
