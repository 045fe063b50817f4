"""Arguments to request messages and reply messages to results. Pure functions, shared by the two clients."""

from __future__ import annotations

import operator
import secrets
from collections.abc import Iterable

from latentserve.v1 import bundle_pb2, generation_pb2, models_pb2
from latentserve_client._payload import (
    build_images,
    build_latents,
    build_output,
    parse_images,
    parse_latents,
    parse_scores,
    rows,
)
from latentserve_client.errors import RequestError
from latentserve_client.model_ref import ModelLike, ModelRef
from latentserve_client.types import (
    Capability,
    Decoded,
    Format,
    ImageArray,
    ImagesLike,
    LatentsLike,
    Limits,
    ModelInfo,
    ModelState,
    ModelStatus,
    Posterior,
    Reconstruction,
    Samples,
    Served,
    Timing,
)

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
}
_KINDS: dict[int, str] = {bundle_pb2.MODEL_KIND_VAE: "vae", bundle_pb2.MODEL_KIND_GAN: "gan"}


def build_get_model(model: ModelLike, version: int | None, alias: str | None) -> models_pb2.GetModelRequest:
    """The request that describes `model`, whose version stands in the text or in the arguments, not in both."""
    ref = _parse_ref(model)
    if version is not None or alias is not None:
        if ref.version is not None or ref.alias is not None:
            raise RequestError(f"model {str(ref)!r} already says which version; give none besides")
        ref = ModelRef(ref.name, version, alias)
    return models_pb2.GetModelRequest(model=_build_ref(ref))


def build_sample(
    model: ModelLike, count: int, seed: int | None, first_index: int, format: Format
) -> generation_pb2.SampleRequest:
    """The request for rows first_index to first_index + count - 1 of the seed, drawn here where none is given."""
    count = _integer("count", count, 1, 2**32 - 1)
    return generation_pb2.SampleRequest(
        model=_build_ref(_parse_ref(model)),
        count=count,
        seed=secrets.randbits(64) if seed is None else _integer("seed", seed, 0, 2**64 - 1),
        first_index=_integer("first_index", first_index, 0, 2**48 - count),
        output=build_output(format),
    )


def build_encode(
    model: ModelLike, images: ImagesLike, draw_seed: int | None, first_index: int
) -> generation_pb2.EncodeRequest:
    """The request for the posteriors of `images` and, with a seed, for one draw from each."""
    request = generation_pb2.EncodeRequest(model=_build_ref(_parse_ref(model)), images=build_images(images))
    if draw_seed is not None:
        request.draw.seed = _integer("draw_seed", draw_seed, 0, 2**64 - 1)
        request.draw.first_index = _integer("first_index", first_index, 0, 2**48 - rows(request.images))
    elif first_index != 0:
        raise RequestError("first_index is the index of the draws' noise; give draw_seed too")
    return request


def build_decode(model: ModelLike, latents: LatentsLike, format: Format) -> generation_pb2.DecodeRequest:
    """The request for the images of `latents`."""
    return generation_pb2.DecodeRequest(
        model=_build_ref(_parse_ref(model)),
        latents=build_latents(latents),
        output=build_output(format),
    )


def build_reconstruct(model: ModelLike, images: ImagesLike, format: Format) -> generation_pb2.ReconstructRequest:
    """The request for the reconstructions of `images`."""
    return generation_pb2.ReconstructRequest(
        model=_build_ref(_parse_ref(model)), images=build_images(images), output=build_output(format)
    )


def parse_models(response: models_pb2.ListModelsResponse) -> list[ModelStatus]:
    """Every version of every model, by name, then version."""
    return [
        ModelStatus(
            name=status.name,
            version=status.version,
            state=_STATES.get(status.state, ModelState.UNKNOWN),
            reason=status.reason,
            is_default=status.is_default,
            aliases=tuple(status.aliases),
            capabilities=_parse_capabilities(status.capabilities),
        )
        for status in response.models
    ]


def parse_model(response: models_pb2.GetModelResponse) -> ModelInfo:
    """The description of one model."""
    model = response.model
    image, limits = model.manifest.image, model.limits
    return ModelInfo(
        name=model.name,
        version=model.version,
        aliases=tuple(model.aliases),
        capabilities=_parse_capabilities(model.capabilities),
        kind=_KINDS.get(model.manifest.kind, "unknown"),
        latent_dim=model.manifest.latent.dim,
        image_shape=(image.channels, image.height, image.width),
        value_range=(image.min_value, image.max_value),
        device=model.device,
        digest=model.digest,
        limits=Limits(
            limits.max_rows_per_request, limits.max_batch_rows, limits.max_queue_rows, limits.max_message_bytes
        ),
        noise_scheme=model.noise_scheme,
        manifest=model.manifest,
    )


def parse_sample(
    request: generation_pb2.SampleRequest, response: generation_pb2.SampleResponse, request_id: str
) -> Samples[ImageArray | list[bytes]]:
    """The images drawn."""
    return Samples(
        images=parse_images(response.images, request.output, request.count),
        seed=response.seed,
        first_index=request.first_index,
        noise_scheme=response.noise_scheme,
        served=_parse_served(response.served, request_id),
    )


def parse_encode(
    request: generation_pb2.EncodeRequest, response: generation_pb2.EncodeResponse, request_id: str
) -> Posterior:
    """The posteriors, with draws where they were asked for."""
    expected, drawn = rows(request.images), request.HasField("draw")
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
) -> Decoded[ImageArray | list[bytes]]:
    """The images of the latents."""
    return Decoded(
        images=parse_images(response.images, request.output, request.latents.shape[0]),
        served=_parse_served(response.served, request_id),
    )


def parse_reconstruct(
    request: generation_pb2.ReconstructRequest, response: generation_pb2.ReconstructResponse, request_id: str
) -> Reconstruction[ImageArray | list[bytes]]:
    """The reconstructions and their cost."""
    expected = rows(request.images)
    return Reconstruction(
        images=parse_images(response.images, request.output, expected),
        reconstruction_error=parse_scores("reconstruction_error", response.reconstruction_error, expected),
        kl=parse_scores("kl", response.kl, expected),
        served=_parse_served(response.served, request_id),
    )


def _parse_ref(model: ModelLike) -> ModelRef:
    if isinstance(model, ModelRef):
        return model
    if not isinstance(model, str):
        raise RequestError(f"model is a {type(model).__name__}; give its name or a ModelRef")
    return ModelRef.parse(model)


def _build_ref(ref: ModelRef) -> generation_pb2.ModelRef:
    return generation_pb2.ModelRef(name=ref.name, version=ref.version, alias=ref.alias)


def _parse_capabilities(capabilities: Iterable[int]) -> tuple[Capability, ...]:
    return tuple(_CAPABILITIES.get(capability, Capability.UNKNOWN) for capability in capabilities)


def _parse_served(served: generation_pb2.Served, request_id: str) -> Served:
    timing = served.timing
    return Served(
        model=served.model,
        version=served.version,
        timing=Timing(timing.queue_ns, timing.compute_ns, timing.total_ns),
        request_id=request_id,
    )


def _integer(field: str, value: int, low: int, high: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise RequestError(f"{field} is a {type(value).__name__}; give an integer") from None
    if not low <= number <= high:
        raise RequestError(f"{field} {number} is not from {low} to {high}")
    return number
