"""What its kind demands of a manifest: of the latent space, the likelihood, the graphs, the prior, the calibration."""

from __future__ import annotations

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.errors import BundleError
from latentserve_server.latent.noise import MAX_LATENT_DIM
from latentserve_server.model.abilities import carried_priors
from latentserve_server.model.kind import KINDS, NO_PRIOR, Kind

_UNFIT = "does not fit the kind of model"


def check_kind(manifest: pb.Manifest) -> None:
    """Hold the manifest to what is demanded of its kind of model.

    Raises:
        BundleError: a field says something else. The message does not name the file.
    """
    kinds = ", ".join(pb.ModelKind.Name(kind) for kind in KINDS)
    _check(manifest.kind in KINDS, "kind", f"is none of {kinds}")
    kind = KINDS[manifest.kind]
    _check_latent(manifest.latent, kind)
    _check(manifest.likelihood in kind.likelihoods, "likelihood", _UNFIT)
    _check_graphs(manifest, kind)
    _check_prior(manifest, kind)
    if manifest.HasField("calibration"):
        _check(kind.has_variances, "calibration", _UNFIT)


def _check_latent(latent: pb.LatentSpec, kind: Kind) -> None:
    _check(1 <= latent.dim <= MAX_LATENT_DIM, "latent.dim", f"is not in 1 to {MAX_LATENT_DIM}")
    if kind.has_codes:
        _check(latent.codes >= 1, "latent.codes", "is not at least 1")
        _check(not latent.HasField("mixture"), "latent.mixture", _UNFIT)
    else:
        _check(latent.codes == 0, "latent.codes", _UNFIT)
    if latent.HasField("mixture"):
        _check(latent.mixture.components >= 1, "latent.mixture.components", "is not at least 1")


def _check_graphs(manifest: pb.Manifest, kind: Kind) -> None:
    """Each role of the kind, and perhaps a prior, has one float32 graph, and at most one of each other precision."""
    exact = pb.PRECISION_FLOAT32
    found = [(graph.role, graph.precision or exact) for graph in manifest.graphs]
    roles = {role for role, precision in found if precision == exact}
    known = all(role in roles and precision in pb.Precision.values() for role, precision in found)
    fits = known and kind.roles <= roles <= kind.roles | {pb.GRAPH_ROLE_PRIOR} and len(set(found)) == len(found)
    _check(fits, "graphs", "are not those of the kind of model")
    if kind.has_codes:
        lower = {role for role, precision in found if precision != exact} - {pb.GRAPH_ROLE_DECODER}
        _check(not lower, "graphs", "that give codes are float32 alone: codes have no signal-to-noise ratio")


def _check_prior(manifest: pb.Manifest, kind: Kind) -> None:
    latent, named, carried = manifest.latent, manifest.latent.prior, carried_priors(manifest)
    allowed = ", ".join(pb.Prior.Name(prior) for prior in sorted(kind.priors))
    _check(named in kind.priors, "latent.prior", f"is none of {allowed}")
    if named == NO_PRIOR:
        _check(not carried, "latent.prior", "is unspecified where the bundle carries a prior")
    elif named != pb.PRIOR_STANDARD_NORMAL:
        _check(named in carried, "latent.prior", "names what the bundle does not carry")
    if pb.PRIOR_GRAPH in carried:
        _check(1 <= latent.noise_dim <= MAX_LATENT_DIM, "latent.noise_dim", f"is not in 1 to {MAX_LATENT_DIM}")
    else:
        _check(latent.noise_dim == 0, "latent.noise_dim", "is there without a prior graph")


def _check(holds: bool, field: str, problem: str) -> None:
    if not holds:
        raise BundleError(f"{field} {problem}")
