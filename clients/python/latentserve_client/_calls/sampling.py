"""Requests that draw from the prior: one call, or a stream of any length."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve.contract import MAX_INDEX
from latentserve.v1 import generation_pb2
from latentserve_client._calls.exchange import Exchange
from latentserve_client._calls.fields import (
    MAX_UINT32,
    build_labels,
    build_prior,
    build_priority,
    build_ref,
    build_seed,
    build_shaping,
    integer,
)
from latentserve_client._calls.payload import build_output
from latentserve_client._calls.replies import parse_chunk, parse_sample
from latentserve_client._calls.resumption import Resumption
from latentserve_client.errors import RequestError
from latentserve_client.inputs import Format, LabelsLike, Prior, Priority
from latentserve_client.models import ModelLike
from latentserve_client.results import Samples


def sample(
    model: ModelLike,
    count: int,
    *,
    seed: int | None = None,
    first_index: int = 0,
    prior: Prior | None = None,
    temperature: float | None = None,
    truncation: float | None = None,
    psi: float | None = None,
    labels: LabelsLike | None = None,
    format: Format = "float32",
    grid_columns: int | None = None,
    bands: Sequence[int] | None = None,
    priority: Priority | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[Samples]:
    """Draw images from the prior: rows first_index to first_index + count - 1 of the seed's sequence.

    A row depends only on seed and index, whatever the count, the batch or the replica, so that a long job splits by
    first_index.

    Args:
        model: its name, "name:3" (a version), "name@stable" (an alias) or a ModelRef.
        count: the number of images, 1 to the model's limits.max_rows_per_request.
        seed: any uint64; same seed, same images. Unless given the client draws one, so that a retried call returns
            the images of its first attempt; the result has it.
        first_index: the index of the first row within the seed's sequence, 0 to 2^48 - count.
        prior: "standard_normal", "mixture" or "graph", where the model has it; the model's default unless given.
        temperature: 0 to 4, times the noise; 0 gives the prior's mean. 1 unless given.
        truncation: 0.5 to 8, where the noise is cut off, in standard deviations; nowhere unless given.
        psi: what the decoder takes as its psi, within the model's `psi`, where it has one; its default unless given.
        labels: of a conditional model, from 0, given to the indices in turn; every label in turn unless given.
        format: "float32" (in the model's value range), "float16" or "uint8" (0 to 255) for one array, in `images`;
            "png", "jpeg" (at quality 90) or "webp" (lossless) for encoded files, in `files`.
        grid_columns: with a file format, one file with the picture of all images, in so many columns.
        bands: with a file format, the channels that files show, from 0: one as grey, three as RGB or four as RGBA; all
            of a model of 1, 3 or 4 channels unless given.
        priority: "bulk" lets others go first, "interactive" does not; "interactive" unless given.
        timeout: seconds that the call may take, retries included; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        CallError: the call failed, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    count = integer("count", count, 1, MAX_UINT32)
    request = generation_pb2.SampleRequest(
        model=build_ref(model),
        count=count,
        seed=build_seed("seed", seed),
        first_index=integer("first_index", first_index, 0, MAX_INDEX - count),
        output=build_output(format, grid_columns, bands),
        priority=build_priority(priority),
        labels=build_labels(labels),
        shaping=build_shaping(temperature, truncation, psi),
        prior=build_prior(prior),
    )
    return Exchange("Sample", request, parse_sample, timeout, request_id)


def stream_samples(
    model: ModelLike,
    count: int,
    *,
    seed: int | None = None,
    first_index: int = 0,
    chunk_rows: int | None = None,
    any_numerics: bool = False,
    prior: Prior | None = None,
    temperature: float | None = None,
    truncation: float | None = None,
    psi: float | None = None,
    labels: LabelsLike | None = None,
    format: Format = "float32",
    grid_columns: int | None = None,
    bands: Sequence[int] | None = None,
    priority: Priority | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Resumption:
    """Draw any number of images, as `sample` does, which come in chunks while the stream is read.

    The server makes the next chunk while one is worked on, and none beyond it. A stream that breaks is resumed where
    it stood, on any server that computes the same bits.

    Args:
        model: its name, "name:3" (a version), "name@stable" (an alias) or a ModelRef.
        count: the number of images, 1 to 2^48.
        seed: any uint64; same seed, same images. The client draws one unless given; the stream has it.
        first_index: the index of the first row within the seed's sequence, 0 to 2^48 - count.
        chunk_rows: images in a chunk; as many as make about a mebibyte unless given.
        any_numerics: whether a stream that was cut off may go on where other last bits are computed. Unless it may,
            another server is looked for, and where there is none the stream ends with a NumericsError.
        prior: "standard_normal", "mixture" or "graph", where the model has it; the model's default unless given.
        temperature: 0 to 4, times the noise; 0 gives the prior's mean. 1 unless given.
        truncation: 0.5 to 8, where the noise is cut off, in standard deviations; nowhere unless given.
        psi: what the decoder takes as its psi, within the model's `psi`, where it has one; its default unless given.
        labels: of a conditional model, from 0, given to the indices in turn; every label in turn unless given.
        format: "float32" (in the model's value range), "float16" or "uint8" (0 to 255) for an array, in `images` of
            each chunk; "png", "jpeg" (at quality 90) or "webp" (lossless) for encoded files, in `files`.
        grid_columns: with a file format and chunk_rows, one file a chunk, the picture of its images in so many columns.
        bands: with a file format, the channels that files show, from 0: one as grey, three as RGB or four as RGBA; all
            of a model of 1, 3 or 4 channels unless given.
        priority: "bulk" lets others go first, "interactive" does not; "bulk" unless given.
        timeout: seconds that may pass until the next chunk is there, resuming included; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the calls; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent. ClosedError: the client is closed.
    """
    count = integer("count", count, 1, MAX_INDEX)
    if grid_columns is not None and chunk_rows is None:
        raise RequestError("grid_columns makes one picture of each chunk; give chunk_rows too")
    request = generation_pb2.StreamSamplesRequest(
        model=build_ref(model),
        count=count,
        seed=build_seed("seed", seed),
        first_index=integer("first_index", first_index, 0, MAX_INDEX - count),
        chunk_rows=0 if chunk_rows is None else integer("chunk_rows", chunk_rows, 1, MAX_UINT32),
        output=build_output(format, grid_columns, bands),
        priority=build_priority(priority),
        labels=build_labels(labels),
        shaping=build_shaping(temperature, truncation, psi),
        prior=build_prior(prior),
    )
    exchange = Exchange("StreamSamples", request, parse_chunk, timeout, request_id)
    return Resumption(exchange, any_numerics=any_numerics)
