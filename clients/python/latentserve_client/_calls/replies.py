"""Conversion of replies about images, latents and scores to results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import generation_pb2
from latentserve_client._calls.payload import (
    count_images,
    count_points,
    parse_codes,
    parse_images,
    parse_labels,
    parse_latents,
    parse_scores,
)
from latentserve_client.errors import ReplyError
from latentserve_client.results import (
    Decoded,
    Pictures,
    Posterior,
    Reconstruction,
    Samples,
    Scores,
    Served,
    Timing,
    Walk,
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
    """The posteriors, with draws where they were asked for; latents of a deterministic encoder, or codes."""
    expected, drawn, has = count_images(request.images), request.HasField("draw"), response.HasField
    return Posterior(
        mean=None if has("codes") else parse_latents("mean", response.mean, expected),
        log_variance=(
            parse_latents("log_variance", response.log_variance, expected) if has("log_variance") or drawn else None
        ),
        z=parse_latents("z", response.z, expected) if drawn else None,
        seed=response.seed if drawn else None,
        noise_scheme=response.noise_scheme if drawn else None,
        served=_parse_served(response.served, request_id),
        codes=parse_codes("codes", response.codes, expected) if has("codes") else None,
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
        reconstruction_error=_scores_or_none("reconstruction_error", response.reconstruction_error, expected),
        kl=_scores_or_none("kl", response.kl, expected),
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
        kl=_scores_or_none("kl", response.kl, expected),
        elbo=_scores_or_none("elbo", response.elbo, expected),
        importance_bound=(
            parse_scores("importance_bound", response.importance_bound, expected) if request.draws else None
        ),
        served=_parse_served(response.served, request_id),
        anomaly_percentile=_scores_or_none("anomaly_percentile", response.anomaly_percentile, expected),
        map=Pictures(parse_images(response.map, request.map, expected, "map")) if request.HasField("map") else None,
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


def _scores_or_none(field: str, scores: Sequence[float], expected: int) -> NDArray[np.float32] | None:
    return parse_scores(field, scores, expected) if scores else None


def _parse_served(served: generation_pb2.Served, request_id: str) -> Served:
    timing = served.timing
    return Served(
        model=served.model,
        version=served.version,
        timing=Timing(timing.queue_ns, timing.compute_ns, timing.total_ns, timing.batch_rows),
        request_id=request_id,
        numerics=served.numerics,
    )
