"""GenerationService: sample, encode, decode, reconstruct, score and walks."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.api.call import CallClock, lease
from latentserve_server.api.images import read_images, read_latents, write_images
from latentserve_server.api.requests import (
    decode_request,
    encode_request,
    reconstruct_request,
    sample_request,
    score_request,
    stream_request,
)
from latentserve_server.api.sample_reply import AS_COMPUTED, sample_reply
from latentserve_server.api.streams import chunks
from latentserve_server.api.walk_requests import interpolate_request, traverse_request
from latentserve_server.batching.scheduling import Timing
from latentserve_server.latent.noise import NOISE_SCHEME
from latentserve_server.latent.walks import interpolate, interpolation_bytes, traverse
from latentserve_server.model.answers import Decoded
from latentserve_server.model.requests import DecodeRequest, EncodeRequest
from latentserve_server.model.served_model import ServedModel
from latentserve_server.repository.repository import Repository
from latentserve_server.wire.exchange import Exchange
from latentserve_server.workers import INLINE_BYTES, Workers

_SEED_BYTES = 1 << 14
"""A draw of one row costs about as much as work on so many bytes."""


class GenerationServicer:
    """Answers GenerationService from the repository's models."""

    def __init__(self, repository: Repository, workers: Workers) -> None:
        self._repository = repository
        self._workers = workers

    async def Sample(self, request: pb.SampleRequest, context: Exchange) -> pb.SampleResponse | bytes:
        """Images drawn from the prior."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            sampled = await model.sample(sample_request(request, model, clock))
            served = clock.served(model, sampled.timing)
            rest = pb.SampleResponse(seed=sampled.seed, noise_scheme=NOISE_SCHEME, served=served, labels=sampled.labels)
            if request.output.format in AS_COMPUTED:
                if sampled.images.nbytes < INLINE_BYTES:
                    return sample_reply(sampled.images, rest)
                return await self._workers.run(sampled.images.nbytes, sample_reply, sampled.images, rest)
            rest.images.MergeFrom(await self._write(sampled.images, request.output))
            return rest

    async def StreamSamples(
        self, request: pb.StreamSamplesRequest, context: Exchange
    ) -> AsyncIterator[pb.StreamSamplesResponse]:
        """Images drawn from the prior, chunk by chunk."""
        with lease(self._repository, request.model) as model:
            asked = stream_request(request, model, CallClock(context))
            all_rows = asked.sample

            async def make(start: int, rows: int) -> pb.StreamSamplesResponse:
                clock = CallClock(context)
                sampled = await model.sample(replace(all_rows, first_index=start, count=rows))
                return pb.StreamSamplesResponse(
                    images=await self._write(sampled.images, request.output),
                    first_index=start,
                    seed=sampled.seed,
                    noise_scheme=NOISE_SCHEME,
                    served=clock.served(model, sampled.timing),
                    labels=sampled.labels,
                )

            made = chunks(make, all_rows.first_index, all_rows.count, asked.chunk_rows)
            async with aclosing(made) as stream:
                async for chunk in stream:
                    yield chunk

    async def Encode(self, request: pb.EncodeRequest, context: Exchange) -> pb.EncodeResponse:
        """Posteriors of images."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            asked = encode_request(request, model, clock)
            encoded = await model.encode(await self._read(request.images, model), asked)
            return pb.EncodeResponse(
                mean=from_ndarray(encoded.mean),
                log_variance=from_ndarray(encoded.log_variance),
                z=None if encoded.z is None else from_ndarray(encoded.z),
                seed=encoded.seed,
                noise_scheme="" if encoded.z is None else NOISE_SCHEME,
                served=clock.served(model, encoded.timing),
            )

    async def Decode(self, request: pb.DecodeRequest, context: Exchange) -> pb.DecodeResponse:
        """Images of latents."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            asked = decode_request(request, model, clock)
            latents = await read_latents("latents", request.latents, model.manifest.latent.dim, self._workers)
            decoded, images = await self._decode(latents, model, asked, request.output)
            return pb.DecodeResponse(images=images, served=clock.served(model, decoded.timing))

    async def Reconstruct(self, request: pb.ReconstructRequest, context: Exchange) -> pb.ReconstructResponse:
        """Images encoded and decoded again, with what was lost."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            asked = reconstruct_request(request, model, clock)
            reconstructed = await model.reconstruct(await self._read(request.images, model), asked)
            return pb.ReconstructResponse(
                images=await self._write(reconstructed.images, request.output),
                reconstruction_error=reconstructed.reconstruction_error,
                kl=reconstructed.kl,
                served=clock.served(model, reconstructed.timing),
            )

    async def Interpolate(self, request: pb.InterpolateRequest, context: Exchange) -> pb.InterpolateResponse:
        """Images along paths between pairs of latents."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            asked = interpolate_request(request, model, clock)
            starts, timing_of_starts = await self._locate("from", getattr(request, "from"), model, asked.encode)
            ends, timing_of_ends = await self._locate("to", request.to, model, asked.encode)
            size = interpolation_bytes(starts, asked.steps)
            latents = await self._workers.run(size, interpolate, starts, ends, asked.steps, asked.path)
            decoded, images = await self._decode(latents, model, asked.decode, request.output)
            served = clock.served(model, timing_of_starts + timing_of_ends + decoded.timing)
            return pb.InterpolateResponse(images=images, latents=from_ndarray(latents), served=served)

    async def Traverse(self, request: pb.TraverseRequest, context: Exchange) -> pb.TraverseResponse:
        """Images of what one or two latent dimensions do."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            asked = traverse_request(request, model, clock)
            origin, timing = np.zeros((1, model.manifest.latent.dim), np.float32), Timing()
            if request.HasField("origin"):
                origin, timing = await self._locate("origin", request.origin, model, asked.encode)
            size = origin.nbytes * math.prod(axis.steps for axis in asked.axes)
            latents = await self._workers.run(size, traverse, origin[0], asked.axes)
            decoded, images = await self._decode(latents, model, asked.decode, request.output)
            served = clock.served(model, timing + decoded.timing)
            return pb.TraverseResponse(images=images, latents=from_ndarray(latents), served=served)

    async def Score(self, request: pb.ScoreRequest, context: Exchange) -> pb.ScoreResponse:
        """How well the model explains images."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            asked = score_request(request, model, clock)
            scored = await model.score(await self._read(request.images, model), asked)
            scores = scored.scores
            return pb.ScoreResponse(
                reconstruction_error=scores.reconstruction_error,
                kl=scores.kl,
                elbo=scores.elbo,
                importance_bound=scores.importance_bound,
                anomaly_percentile=scores.anomaly_percentile,
                served=clock.served(model, scored.timing),
            )

    async def _locate(
        self, field: str, points: pb.Points, model: ServedModel, encode: EncodeRequest
    ) -> tuple[NDArray[np.float32], Timing]:
        """The latents [n, latent_dim] that points name, and what finding them took; images are encoded."""
        if points.HasField("latents"):
            dim = model.manifest.latent.dim
            return await read_latents(f"{field}.latents", points.latents, dim, self._workers), Timing()
        if points.HasField("seeds"):
            seeds = list(points.seeds.seeds)
            return await self._workers.run(_SEED_BYTES * len(seeds), model.prior_rows, seeds), Timing()
        images = await read_images(f"{field}.images", points.images, model.manifest.image, self._workers)
        encoded = await model.encode(images, encode)
        return encoded.mean, encoded.timing

    async def _decode(
        self, latents: NDArray[np.float32], model: ServedModel, asked: DecodeRequest, output: pb.Output
    ) -> tuple[Decoded, pb.Images]:
        decoded = await model.decode(latents, asked)
        return decoded, await self._write(decoded.images, output)

    async def _read(self, images: pb.Images, model: ServedModel) -> NDArray[np.float32]:
        return await read_images("images", images, model.manifest.image, self._workers)

    async def _write(self, images: NDArray[Any], output: pb.Output) -> pb.Images:
        return await write_images(images, output, self._workers)
