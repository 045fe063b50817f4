"""Conversion of replies about models, their versions and their changes to results."""

from __future__ import annotations

from collections.abc import Iterable

from latentserve.v1 import bundle_pb2, models_pb2
from latentserve_client.models import Capability, Limits, ModelInfo, ModelState, ModelStatus, Psi, Rescanned

_STATES: dict[int, ModelState] = {
    models_pb2.MODEL_STATE_LOADING: ModelState.LOADING,
    models_pb2.MODEL_STATE_READY: ModelState.READY,
    models_pb2.MODEL_STATE_UNLOADING: ModelState.UNLOADING,
    models_pb2.MODEL_STATE_UNAVAILABLE: ModelState.UNAVAILABLE,
}
_CAPABILITIES: dict[int, Capability] = {
    models_pb2.CAPABILITY_SAMPLE: Capability.SAMPLE,
    models_pb2.CAPABILITY_ENCODE: Capability.ENCODE,
    models_pb2.CAPABILITY_DECODE: Capability.DECODE,
    models_pb2.CAPABILITY_RECONSTRUCT: Capability.RECONSTRUCT,
    models_pb2.CAPABILITY_SCORE: Capability.SCORE,
}


def _words(values: Iterable[tuple[str, int]], prefix: str) -> dict[int, str]:
    """What the values of an enum are called here: LIKELIHOOD_GAUSSIAN is "gaussian", and what is unspecified empty."""
    return {value: name.removeprefix(prefix).lower().replace("unspecified", "") for name, value in values}


_KINDS = _words(bundle_pb2.ModelKind.items(), "MODEL_KIND_")
_LIKELIHOODS = _words(bundle_pb2.Likelihood.items(), "LIKELIHOOD_")
_PRIORS = _words(bundle_pb2.Prior.items(), "PRIOR_")
_PRECISIONS = _words(bundle_pb2.Precision.items(), "PRECISION_")
_ROW_BITS = _words(models_pb2.RowBits.items(), "ROW_BITS_")


def parse_models(
    _request: models_pb2.ListModelsRequest, response: models_pb2.ListModelsResponse, _request_id: str
) -> list[ModelStatus]:
    """Every version of every model, by name, then version."""
    return [parse_status(status) for status in response.models]


def parse_status(status: models_pb2.ModelStatus) -> ModelStatus:
    """One version of one model."""
    return ModelStatus(
        name=status.name,
        version=status.version,
        state=_STATES.get(status.state, ModelState.UNKNOWN),
        reason=status.reason,
        is_default=status.is_default,
        aliases=tuple(status.aliases),
        capabilities=_parse_capabilities(status.capabilities),
        memory_bytes=status.memory_bytes,
        row_bits=_ROW_BITS.get(status.row_bits, "unknown"),
        numerics=status.numerics,
    )


def parse_model(
    _request: models_pb2.GetModelRequest, response: models_pb2.GetModelResponse, _request_id: str
) -> ModelInfo:
    """The description of one model."""
    model = response.model
    image, latent, psi, limits = model.manifest.image, model.manifest.latent, model.manifest.psi, model.limits
    return ModelInfo(
        name=model.name,
        version=model.version,
        aliases=tuple(model.aliases),
        capabilities=_parse_capabilities(model.capabilities),
        kind=_KINDS.get(model.manifest.kind) or "unknown",
        likelihood=_LIKELIHOODS.get(model.manifest.likelihood, "unknown"),
        labels=model.manifest.labels.count,
        label_names=tuple(model.manifest.labels.names),
        prior=_PRIORS.get(latent.prior, "unknown"),
        mixture_components=latent.mixture.components,
        calibration_images=model.manifest.calibration.images,
        latent_dim=latent.dim,
        latent_shape=tuple(latent.shape) or (latent.dim,),
        codes=latent.codes,
        noise_dim=latent.noise_dim,
        psi=Psi(psi.default_value, psi.min_value, psi.max_value) if model.manifest.HasField("psi") else None,
        image_shape=(image.channels, image.height, image.width),
        value_range=(image.min_value, image.max_value),
        device=model.device,
        precision=_PRECISIONS.get(model.precision, "unknown"),
        row_bits=_ROW_BITS.get(model.row_bits, "unknown"),
        numerics=model.numerics,
        digest=model.digest,
        limits=Limits(
            limits.max_rows_per_request, limits.max_batch_rows, limits.max_queue_rows, limits.max_message_bytes
        ),
        noise_scheme=model.noise_scheme,
        manifest=model.manifest,
    )


def parse_load(_request: models_pb2.LoadRequest, response: models_pb2.LoadResponse, _request_id: str) -> ModelStatus:
    """The version that was loaded."""
    return parse_status(response.model)


def parse_nothing(_request: object, _response: object, _request_id: str) -> None:
    """None: the reply says that it was done, and no more."""


def parse_stored(
    _request: object, response: models_pb2.SetAliasResponse | models_pb2.DeleteAliasResponse, _request_id: str
) -> bool:
    """Whether the change was stored in the repository."""
    return response.stored


def parse_rescan(
    _request: models_pb2.RescanRequest, response: models_pb2.RescanResponse, _request_id: str
) -> Rescanned:
    """Every version after the rescan, and the problems that it found."""
    return Rescanned(tuple(parse_status(status) for status in response.models), tuple(response.problems))


def _parse_capabilities(capabilities: Iterable[int]) -> tuple[Capability, ...]:
    return tuple(_CAPABILITIES.get(capability, Capability.UNKNOWN) for capability in capabilities)
