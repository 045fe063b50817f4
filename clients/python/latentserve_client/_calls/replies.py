"""Conversion of replies to results."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

from latentserve.v1 import bundle_pb2, generation_pb2, models_pb2
from latentserve_client._calls.payload import (
    count_images,
    count_points,
    parse_images,
    parse_labels,
    parse_latents,
    parse_scores,
)
from latentserve_client.errors import ReplyError
from latentserve_client.models import Capability, Limits, ModelInfo, ModelState, ModelStatus
from latentserve_client.results import Decoded, Posterior, Reconstruction, Samples, Scores, Served, Timing, Walk

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
    image, limits = model.manifest.image, model.limits
    return ModelInfo(
        name=model.name,
        version=model.version,
        aliases=tuple(model.aliases),
        capabilities=_parse_capabilities(model.capabilities),
        kind=_KINDS.get(model.manifest.kind) or "unknown",
        likelihood=_LIKELIHOODS.get(model.manifest.likelihood, "unknown"),
        labels=model.manifest.labels.count,
        label_names=tuple(model.manifest.labels.names),
        mixture_components=model.manifest.latent.mixture.components,
        calibration_images=model.manifest.calibration.images,
        latent_dim=model.manifest.latent.dim,
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


def parse_sample(
    request: generation_pb2.SampleRequest, response: generation_pb2.SampleResponse, request_id: str
) -> Samples:
    """The images drawn."""
    return _parse_samples(request, response, request.count, request_id)


def parse_chunk(
    request: generation_pb2.StreamSamplesRequest, response: generation_pb2.StreamSamplesResponse, request_id: str
) -> Samples:
    """The first images of those that `request` still asks for."""
    if (response.seed, response.first_index) != (request.seed, request.first_index):
        raise ReplyError(
            f"first_index: the chunk begins at {response.first_index} of seed {response.seed}; "
            f"{request.first_index} of {request.seed} is next"
        )
    rows = count_rows(request, response)
    if not 1 <= rows <= request.count:
        raise ReplyError(f"images: the chunk has {rows} images; {request.count} are still to come")
    return _parse_samples(request, response, rows, request_id)


def count_rows(request: generation_pb2.StreamSamplesRequest, response: generation_pb2.StreamSamplesResponse) -> int:
    """The rows of a chunk: as many as were asked for, else as many as it has images."""
    return min(request.chunk_rows, request.count) or count_images(response.images)


def parse_encode(
    request: generation_pb2.EncodeRequest, response: generation_pb2.EncodeResponse, request_id: str
) -> Posterior:
    """The posteriors, with draws where they were asked for."""
    expected, drawn = count_images(request.images), request.HasField("draw")
    return Posterior(
        mean=parse_latents("mean", response.mean, expected),
        log_variance=parse_latents("log_variance", response.log_variance, expected),
        z=parse_latents("z", response.z, expected) if drawn else None,
        seed=response.seed if drawn else None,
        noise_scheme=response.noise_scheme if drawn else None,
        served=_parse_served(response.served, request_id),
    )


def parse_decode(
    request: generation_pb2.DecodeRequest, response: generation_pb2.DecodeResponse, request_id: str
) -> Decoded:
    """The images of the latents."""
    return Decoded(
        parse_images(response.images, request.output, request.latents.shape[0]),
        served=_parse_served(response.served, request_id),
    )


def parse_reconstruct(
    request: generation_pb2.ReconstructRequest, response: generation_pb2.ReconstructResponse, request_id: str
) -> Reconstruction:
    """The reconstructions and their cost."""
    expected = count_images(request.images)
    return Reconstruction(
        parse_images(response.images, request.output, expected),
        reconstruction_error=parse_scores("reconstruction_error", response.reconstruction_error, expected),
        kl=parse_scores("kl", response.kl, expected),
        served=_parse_served(response.served, request_id),
    )


def parse_interpolate(
    request: generation_pb2.InterpolateRequest, response: generation_pb2.InterpolateResponse, request_id: str
) -> Walk:
    """The images along the paths."""
    return _parse_walk(request, response, count_points(request.to) * request.steps, request_id)


def parse_traverse(
    request: generation_pb2.TraverseRequest, response: generation_pb2.TraverseResponse, request_id: str
) -> Walk:
    """The images of the combinations of values."""
    return _parse_walk(request, response, math.prod(axis.steps for axis in request.axes), request_id)


def parse_score(
    request: generation_pb2.ScoreRequest, response: generation_pb2.ScoreResponse, request_id: str
) -> Scores:
    """The scores, with the bound where draws were asked for."""
    expected = count_images(request.images)
    return Scores(
        reconstruction_error=parse_scores("reconstruction_error", response.reconstruction_error, expected),
        kl=parse_scores("kl", response.kl, expected),
        elbo=parse_scores("elbo", response.elbo, expected),
        importance_bound=(
            parse_scores("importance_bound", response.importance_bound, expected) if request.draws else None
        ),
        served=_parse_served(response.served, request_id),
        anomaly_percentile=(
            parse_scores("anomaly_percentile", response.anomaly_percentile, expected)
            if response.anomaly_percentile
            else None
        ),
    )


_SampleRequest: TypeAlias = generation_pb2.SampleRequest | generation_pb2.StreamSamplesRequest
_SampleResponse: TypeAlias = generation_pb2.SampleResponse | generation_pb2.StreamSamplesResponse
_WalkRequest: TypeAlias = generation_pb2.InterpolateRequest | generation_pb2.TraverseRequest
_WalkResponse: TypeAlias = generation_pb2.InterpolateResponse | generation_pb2.TraverseResponse


def _parse_samples(request: _SampleRequest, response: _SampleResponse, rows: int, request_id: str) -> Samples:
    return Samples(
        parse_images(response.images, request.output, rows),
        seed=response.seed,
        first_index=request.first_index,
        noise_scheme=response.noise_scheme,
        served=_parse_served(response.served, request_id),
        labels=parse_labels(response.labels, rows),
    )


def _parse_walk(request: _WalkRequest, response: _WalkResponse, expected: int, request_id: str) -> Walk:
    return Walk(
        parse_images(response.images, request.output, expected),
        latents=parse_latents("latents", response.latents, expected),
        served=_parse_served(response.served, request_id),
    )


def _parse_capabilities(capabilities: Iterable[int]) -> tuple[Capability, ...]:
    return tuple(_CAPABILITIES.get(capability, Capability.UNKNOWN) for capability in capabilities)


def _parse_served(served: generation_pb2.Served, request_id: str) -> Served:
    timing = served.timing
    return Served(
        model=served.model,
        version=served.version,
        timing=Timing(timing.queue_ns, timing.compute_ns, timing.total_ns, timing.batch_rows),
        request_id=request_id,
        numerics=served.numerics,
    )
