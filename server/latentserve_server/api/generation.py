"""GenerationService on the wire: decode the request, call the model, encode the reply."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from latentserve.ndarray import from_ndarray
from latentserve.seed import draw_seed
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc
from latentserve_server.api.images import check_output, read_images, read_latents, write_images
from latentserve_server.api.models import lease
from latentserve_server.api.requests import (
    axes_of,
    chunk_rows_of,
    drawing_of,
    form_of,
    labels_of,
    locate,
    path_of,
    seed_of,
)
from latentserve_server.api.streams import chunks
from latentserve_server.api.timing import CallClock
from latentserve_server.batching.entry import Terms
from latentserve_server.latent.labels import Labels
from latentserve_server.latent.noise import NOISE_SCHEME
from latentserve_server.latent.prior import check_indices
from latentserve_server.latent.walks import interpolate, interpolation_bytes, traverse
from latentserve_server.model.answers import Decoded, Spent
from latentserve_server.model.served_model import ServedModel
from latentserve_server.repository.repository import Repository
from latentserve_server.workers import Workers

Context = grpc.aio.ServicerContext[Any, Any]


class GenerationServicer(generation_pb2_grpc.GenerationServiceServicer):
    """Answers GenerationService from the repository's models."""

    def __init__(self, repository: Repository, workers: Workers) -> None:
        self._repository = repository
        self._workers = workers

    async def Sample(self, request: pb.SampleRequest, context: Context) -> pb.SampleResponse:
        """Images drawn from the prior."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            check_output(request.output, request.count, model.manifest.image)
            what = drawing_of(request), labels_of(request, model)
            where = request.count, seed_of(request), request.first_index
            sampled = await model.sample(*where, form_of(request.output), clock.terms(request.priority), *what)
            return pb.SampleResponse(
                images=await self._write(sampled.images, request.output),
                seed=sampled.seed,
                noise_scheme=NOISE_SCHEME,
                served=clock.served(model, sampled.spent),
                labels=sampled.labels,
            )

    async def StreamSamples(
        self, request: pb.StreamSamplesRequest, context: Context
    ) -> AsyncIterator[pb.StreamSamplesResponse]:
        """Images drawn from the prior, chunk by chunk."""
        with lease(self._repository, request.model) as model:
            rows, form = chunk_rows_of(request, model), form_of(request.output)
            what = drawing_of(request), labels_of(request, model)
            check_output(request.output, rows, model.manifest.image)
            check_indices("first_index", request.first_index, request.count)
            seed = draw_seed() if (given := seed_of(request)) is None else given

            async def make(start: int, rows: int) -> pb.StreamSamplesResponse:
                clock = CallClock(context)
                terms = clock.terms(request.priority or pb.PRIORITY_BULK)
                sampled = await model.sample(rows, seed, start, form, terms, *what)
                return pb.StreamSamplesResponse(
                    images=await self._write(sampled.images, request.output),
                    first_index=start,
                    seed=seed,
                    noise_scheme=NOISE_SCHEME,
                    served=clock.served(model, sampled.spent),
                    labels=sampled.labels,
                )

            async with aclosing(chunks(make, request.first_index, request.count, rows)) as stream:
                async for chunk in stream:
                    yield chunk

    async def Encode(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:
        """Posteriors of images."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            terms, labels = clock.terms(request.priority), labels_of(request, model)
            images = await self._read(request.images, model)
            if not request.HasField("draw"):
                encoded = await model.encode(images, terms, labels)
            else:
                where = seed_of(request.draw), request.draw.first_index
                encoded = await model.encode_and_draw(images, *where, terms, labels)
            return pb.EncodeResponse(
                mean=from_ndarray(encoded.mean),
                log_variance=from_ndarray(encoded.log_variance),
                z=None if encoded.z is None else from_ndarray(encoded.z),
                seed=encoded.seed,
                noise_scheme="" if encoded.z is None else NOISE_SCHEME,
                served=clock.served(model, encoded.spent),
            )

    async def Decode(self, request: pb.DecodeRequest, context: Context) -> pb.DecodeResponse:
        """Images of latents."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            labels, dim = labels_of(request, model), model.manifest.latent.dim
            latents = await read_latents("latents", request.latents, dim, self._workers)
            terms = clock.terms(request.priority)
            decoded, images = await self._decode("latents", latents, model, request.output, terms, labels)
            return pb.DecodeResponse(images=images, served=clock.served(model, decoded.spent))

    async def Reconstruct(self, request: pb.ReconstructRequest, context: Context) -> pb.ReconstructResponse:
        """Images encoded and decoded again, with what was lost."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            labels = labels_of(request, model)
            images = await self._read(request.images, model)
            check_output(request.output, len(images), model.manifest.image)
            form = form_of(request.output)
            reconstructed = await model.reconstruct(images, form, clock.terms(request.priority), labels)
            return pb.ReconstructResponse(
                images=await self._write(reconstructed.images, request.output),
                reconstruction_error=reconstructed.reconstruction_error,
                kl=reconstructed.kl,
                served=clock.served(model, reconstructed.spent),
            )

    async def Interpolate(self, request: pb.InterpolateRequest, context: Context) -> pb.InterpolateResponse:
        """Images along paths between pairs of latents."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            terms, path, labels = clock.terms(request.priority), path_of(request), labels_of(request, model)
            starts, spent_on_starts = await self._locate("from", getattr(request, "from"), model, terms, labels)
            ends, spent_on_ends = await self._locate("to", request.to, model, terms, labels, expected=len(starts))
            model.check_rows("pairs * steps", len(starts) * request.steps)
            labels = labels.spread(len(starts), request.steps)
            size = interpolation_bytes(starts, request.steps)
            latents = await self._workers.run(size, interpolate, starts, ends, request.steps, path)
            decoded, images = await self._decode("from, to", latents, model, request.output, terms, labels)
            spent = spent_on_starts + spent_on_ends + decoded.spent
            return pb.InterpolateResponse(
                images=images, latents=from_ndarray(latents), served=clock.served(model, spent)
            )

    async def Traverse(self, request: pb.TraverseRequest, context: Context) -> pb.TraverseResponse:
        """Images of what one or two latent dimensions do."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            terms, axes = clock.terms(request.priority), axes_of(request, model)
            labels = labels_of(request, model)
            origin, spent = np.zeros((1, model.manifest.latent.dim), np.float32), Spent()
            labels_of_points = labels.spread(1, math.prod(axis.steps for axis in axes))
            if request.HasField("origin"):
                origin, spent = await self._locate("origin", request.origin, model, terms, labels, expected=1)
            size = origin.nbytes * math.prod(axis.steps for axis in axes)
            latents = await self._workers.run(size, traverse, origin[0], axes)
            decoded, images = await self._decode("axes", latents, model, request.output, terms, labels_of_points)
            served = clock.served(model, spent + decoded.spent)
            return pb.TraverseResponse(images=images, latents=from_ndarray(latents), served=served)

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        """How well the model explains images."""
        clock = CallClock(context)
        with lease(self._repository, request.model) as model:
            labels = labels_of(request, model)
            images = await self._read(request.images, model)
            how = request.draws, seed_of(request) or 0, request.first_index
            scored = await model.score(images, *how, clock.terms(request.priority), labels)
            scores = scored.scores
            return pb.ScoreResponse(
                reconstruction_error=scores.reconstruction_error,
                kl=scores.kl,
                elbo=scores.elbo,
                importance_bound=scores.importance_bound,
                anomaly_percentile=scores.anomaly_percentile,
                served=clock.served(model, scored.spent),
            )

    async def _locate(
        self,
        field: str,
        points: pb.Points,
        model: ServedModel,
        terms: Terms,
        labels: Labels,
        expected: int | None = None,
    ) -> tuple[NDArray[np.float32], Spent]:
        return await locate(field, points, model, terms, self._workers, labels, expected=expected)

    async def _decode(
        self,
        field: str,
        latents: NDArray[np.float32],
        model: ServedModel,
        output: pb.Output,
        terms: Terms,
        labels: Labels,
    ) -> tuple[Decoded, pb.Images]:
        check_output(output, len(latents), model.manifest.image)
        decoded = await model.decode(latents, form_of(output), terms, labels, field=field)
        return decoded, await self._write(decoded.images, output)

    async def _read(self, images: pb.Images, model: ServedModel) -> NDArray[np.float32]:
        limits = model.manifest.image, model.limits.max_rows_per_request
        return await read_images("images", images, *limits, self._workers)

    async def _write(self, images: NDArray[Any], output: pb.Output) -> pb.Images:
        return await write_images(images, output, self._workers)
