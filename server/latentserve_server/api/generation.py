"""GenerationService: sample, encode, decode, reconstruct, score and walks."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.dtypes import MESSAGE_TYPES
from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import tensor_pb2
from latentserve_server.api.bytes_field import before_bytes
from latentserve_server.api.images import read_images, read_latents, write_images
from latentserve_server.api.requests import (
    decode_request,
    encode_request,
    model_named,
    reconstruct_request,
    sample_request,
    score_request,
    stream_request,
)
from latentserve_server.api.streams import chunks
from latentserve_server.api.walk_requests import interpolate_request, traverse_request
from latentserve_server.batching.scheduling import Timing
from latentserve_server.latent.noise import NOISE_SCHEME
from latentserve_server.latent.scores import shade
from latentserve_server.latent.shape import shaped
from latentserve_server.latent.walks import interpolate, interpolation_bytes, traverse
from latentserve_server.model.answers import Decoded
from latentserve_server.model.requests import UINT8_PIXELS, DecodeRequest, EncodeRequest, ScoreRequest
from latentserve_server.model.served_model import ServedModel
from latentserve_server.repository.repository import Repository
from latentserve_server.wire.exchange import Exchange
from latentserve_server.workers import INLINE_BYTES, Workers

_AS_COMPUTED = frozenset({pb.IMAGE_FORMAT_UNSPECIFIED, pb.IMAGE_FORMAT_FLOAT32, pb.IMAGE_FORMAT_UINT8})
"""The formats that a reply holds as the decoder gave them."""

_IMAGES = pb.SampleResponse.DESCRIPTOR.fields_by_name["images"].number
_TENSOR = pb.Images.DESCRIPTOR.fields_by_name["tensor"].number
_DATA = tensor_pb2.Tensor.DESCRIPTOR.fields_by_name["data"].number
_CODES = {str(kind.dtype.char): kind.code for kind in MESSAGE_TYPES}
_WIRE_DTYPES = {str(kind.dtype.char): kind.wire_dtype for kind in MESSAGE_TYPES}


class GenerationServicer:
    """Answers GenerationService from the repository's models."""

    def __init__(self, repository: Repository, workers: Workers) -> None:
        self._repository = repository
        self._workers = workers

    async def Sample(self, request: pb.SampleRequest, context: Exchange) -> pb.SampleResponse | bytes:
        """Images drawn from the prior."""
        began_ns = time.monotonic_ns()
        with model_named(self._repository, request.model) as model:
            sampled = await model.sample(sample_request(request, model, context))
            images, reply = sampled.images, pb.SampleResponse(seed=sampled.seed, labels=sampled.labels)
            reply.noise_scheme = NOISE_SCHEME
            _tell_served(reply.served, model, sampled.timing, began_ns)
            if request.output.format not in _AS_COMPUTED:
                reply.images.MergeFrom(await self._write(images, request.output))
                return reply
            if images.nbytes < INLINE_BYTES:
                return _sample_reply(images, reply)
            return await self._workers.run(images.nbytes, _sample_reply, images, reply)

    async def StreamSamples(
        self, request: pb.StreamSamplesRequest, context: Exchange
    ) -> AsyncIterator[pb.StreamSamplesResponse]:
        """Images drawn from the prior, chunk by chunk."""
        with model_named(self._repository, request.model) as model:
            asked = stream_request(request, model, context)
            all_rows = asked.sample

            async def make(start: int, rows: int) -> pb.StreamSamplesResponse:
                began_ns = time.monotonic_ns()
                sampled = await model.sample(all_rows._replace(first_index=start, rows=rows))
                reply = pb.StreamSamplesResponse(
                    images=await self._write(sampled.images, request.output),
                    first_index=start,
                    seed=sampled.seed,
                    noise_scheme=NOISE_SCHEME,
                    labels=sampled.labels,
                )
                _tell_served(reply.served, model, sampled.timing, began_ns)
                return reply

            made = chunks(make, all_rows.first_index, all_rows.rows, asked.chunk_rows)
            async with aclosing(made) as stream:
                async for chunk in stream:
                    yield chunk

    async def Encode(self, request: pb.EncodeRequest, context: Exchange) -> pb.EncodeResponse:
        """Posteriors of images."""
        began_ns = time.monotonic_ns()
        with model_named(self._repository, request.model) as model:
            asked = encode_request(request, model, context)
            encoded = await model.encode(await self._read(request.images, model), asked)
            reply = pb.EncodeResponse(
                mean=_latents_tensor(encoded.mean, model),
                log_variance=_latents_tensor(encoded.log_variance, model),
                z=_latents_tensor(encoded.z, model),
                seed=encoded.seed,
                noise_scheme="" if encoded.z is None else NOISE_SCHEME,
                codes=_latents_tensor(encoded.codes, model),
            )
            _tell_served(reply.served, model, encoded.timing, began_ns)
            return reply

    async def Decode(self, request: pb.DecodeRequest, context: Exchange) -> pb.DecodeResponse:
        """Images of latents."""
        began_ns = time.monotonic_ns()
        with model_named(self._repository, request.model) as model:
            asked = decode_request(request, model, context)
            latents = await read_latents("latents", request.latents, model, self._workers)
            decoded, images = await self._decode(latents, model, asked, request.output)
            reply = pb.DecodeResponse(images=images)
            _tell_served(reply.served, model, decoded.timing, began_ns)
            return reply

    async def Reconstruct(self, request: pb.ReconstructRequest, context: Exchange) -> pb.ReconstructResponse:
        """Images encoded and decoded again, with what was lost."""
        began_ns = time.monotonic_ns()
        with model_named(self._repository, request.model) as model:
            asked = reconstruct_request(request, model, context)
            reconstructed = await model.reconstruct(await self._read(request.images, model), asked)
            reply = pb.ReconstructResponse(
                images=await self._write(reconstructed.images, request.output),
                reconstruction_error=reconstructed.scores.reconstruction_error,
                kl=reconstructed.scores.kl,
            )
            _tell_served(reply.served, model, reconstructed.timing, began_ns)
            return reply

    async def Interpolate(self, request: pb.InterpolateRequest, context: Exchange) -> pb.InterpolateResponse:
        """Images along paths between pairs of latents."""
        began_ns = time.monotonic_ns()
        with model_named(self._repository, request.model) as model:
            asked = interpolate_request(request, model, context)
            starts, timing_of_starts = await self._locate("from", getattr(request, "from"), model, asked.encode)
            ends, timing_of_ends = await self._locate("to", request.to, model, asked.encode)
            size = interpolation_bytes(starts, asked.steps)
            latents = await self._workers.run(size, interpolate, starts, ends, asked.steps, asked.path)
            decoded, images = await self._decode(latents, model, asked.decode, request.output)
            reply = pb.InterpolateResponse(images=images, latents=_latents_tensor(latents, model))
            timing = timing_of_starts.then(timing_of_ends).then(decoded.timing)
            _tell_served(reply.served, model, timing, began_ns)
            return reply

    async def Traverse(self, request: pb.TraverseRequest, context: Exchange) -> pb.TraverseResponse:
        """Images of what one or two latent dimensions do."""
        began_ns = time.monotonic_ns()
        with model_named(self._repository, request.model) as model:
            asked = traverse_request(request, model, context)
            origin, timing = np.zeros((1, model.manifest.latent.dim), np.float32), Timing()
            if request.HasField("origin"):
                origin, timing = await self._locate("origin", request.origin, model, asked.encode)
            size = origin.nbytes * math.prod(axis.steps for axis in asked.axes)
            latents = await self._workers.run(size, traverse, origin[0], asked.axes)
            decoded, images = await self._decode(latents, model, asked.decode, request.output)
            reply = pb.TraverseResponse(images=images, latents=_latents_tensor(latents, model))
            _tell_served(reply.served, model, timing.then(decoded.timing), began_ns)
            return reply

    async def Score(self, request: pb.ScoreRequest, context: Exchange) -> pb.ScoreResponse:
        """How well the model explains images."""
        began_ns = time.monotonic_ns()
        with model_named(self._repository, request.model) as model:
            asked = score_request(request, model, context)
            scored = await model.score(await self._read(request.images, model), asked)
            scores = scored.scores
            error_map = await self._write_map(scores.error_map, asked, request.map)
            reply = pb.ScoreResponse(
                reconstruction_error=scores.reconstruction_error,
                kl=scores.kl,
                elbo=scores.elbo,
                importance_bound=scores.importance_bound,
                anomaly_percentile=scores.anomaly_percentile,
                map=error_map,
            )
            _tell_served(reply.served, model, scored.timing, began_ns)
            return reply

    async def _locate(
        self, field: str, points: pb.Points, model: ServedModel, encode: EncodeRequest
    ) -> tuple[NDArray[np.float32], Timing]:
        """The latents [n, latent_dim] that points name, and what finding them took; images are encoded."""
        if points.HasField("latents"):
            return await read_latents(f"{field}.latents", points.latents, model, self._workers), Timing()
        if points.HasField("seeds"):
            return await model.draw_latents(list(points.seeds.seeds), encode)
        images = await read_images(f"{field}.images", points.images, model.image, self._workers)
        encoded = await model.encode(images, encode)
        assert encoded.mean is not None
        return encoded.mean, encoded.timing

    async def _decode(
        self, latents: NDArray[np.float32], model: ServedModel, asked: DecodeRequest, output: pb.Output
    ) -> tuple[Decoded, pb.Images]:
        decoded = await model.decode(latents, asked)
        return decoded, await self._write(decoded.images, output)

    async def _write_map(
        self, error_map: NDArray[np.float32] | None, asked: ScoreRequest, output: pb.Output
    ) -> pb.Images | None:
        if error_map is None:
            return None
        if asked.map_form == UINT8_PIXELS:
            return await self._write(await self._workers.run(error_map.nbytes, shade, error_map), output)
        return await self._write(error_map, output)

    async def _read(self, images: pb.Images, model: ServedModel) -> NDArray[np.float32]:
        return await read_images("images", images, model.image, self._workers)

    async def _write(self, images: NDArray[Any], output: pb.Output) -> pb.Images:
        return await write_images(images, output, self._workers)


def _latents_tensor(rows: NDArray[Any] | None, model: ServedModel) -> tensor_pb2.Tensor | None:
    """Latents or codes [n, latent_dim] in the shape that the model's latents have for callers; None stays None."""
    return None if rows is None else from_ndarray(shaped(rows, model.latent_shape))


def _sample_reply(images: NDArray[np.uint8] | NDArray[np.float32], rest: pb.SampleResponse) -> bytes:
    """The bytes of a SampleResponse with the images [n, channels, height, width], as they are, and the other fields.

    By way of messages, the pixels would be copied four times: into the tensor, its images, the response and its bytes.
    """
    pixels = np.ascontiguousarray(images, _WIRE_DTYPES[images.dtype.char])
    return b"".join((_before_pixels(images.dtype.char, images.shape), pixels.data, rest.SerializeToString()))


@lru_cache(maxsize=1024)
def _before_pixels(dtype: str, shape: tuple[int, ...]) -> bytes:
    """A SampleResponse up to the pixels of such a tensor, with which its images end."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    head = tensor_pb2.Tensor(dtype=_CODES[dtype], shape=shape).SerializeToString() + before_bytes(_DATA, size)
    images = before_bytes(_TENSOR, len(head) + size) + head
    return before_bytes(_IMAGES, len(images) + size) + images


def _tell_served(served: pb.Served, model: ServedModel, timing: Timing, began_ns: int) -> None:
    """Say in a reply who answered, and where the time went since `began_ns` of the monotonic clock."""
    identity, stated = model.identity, served.timing
    served.model, served.version, served.numerics = identity.name, identity.version, identity.numerics
    stated.queue_ns, stated.compute_ns, stated.batch_rows = timing
    stated.total_ns = time.monotonic_ns() - began_ns
