# ruff: noqa: N802  (the contract names the methods)
"""What the client's tests call: the contract of proto/latentserve/v1, on a linear model small enough to read.

What it computes is in linear_rows.py.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
from client import linear_rows
from client.linear_rows import LATENT, SHAPE, divergences, draw, each_row, encode, noise, reconstruction_errors
from grpc import ServicerContext
from numpy.typing import NDArray
from PIL import Image

from latentserve import ndarray
from latentserve.v1 import bundle_pb2, generation_pb2_grpc, models_pb2_grpc
from latentserve.v1 import generation_pb2 as generation
from latentserve.v1 import models_pb2 as models

MAX_ROWS, CHUNK_ROWS, VERSIONS = 8, 4, (1, 2)
FILES = {generation.IMAGE_FORMAT_PNG: "PNG", generation.IMAGE_FORMAT_JPEG: "JPEG", generation.IMAGE_FORMAT_WEBP: "WEBP"}
CAPABILITIES = [models.Capability.Name(number) for number in models.Capability.values()[1:]]


class Refusal(Exception):
    """What the server says instead of a reply: a status and a message."""


def shape(rows: NDArray[np.float32], shaping: generation.Shaping) -> NDArray[np.float32]:
    if shaping.HasField("truncation"):
        rows = rows.clip(-shaping.truncation, shaping.truncation)
    return rows * np.float32(shaping.temperature if shaping.HasField("temperature") else 1)


def decode(version: int, latents: NDArray[np.float32]) -> NDArray[np.float32]:
    if latents.shape[1] != LATENT:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"latents: {latents.shape[1]} columns, not {LATENT}")
    return linear_rows.decode(version, latents)


def resolve(ref: generation.ModelRef) -> int:
    version = {"stable": 1}.get(ref.alias, 0) if ref.HasField("alias") else ref.version or VERSIONS[-1]
    if ref.name != "linear" or version not in VERSIONS:
        raise Refusal(grpc.StatusCode.NOT_FOUND, f"model: there is no {ref.name!r} of that version or alias")
    return version


def read_images(images: generation.Images) -> NDArray[np.float32]:
    if images.WhichOneof("payload") == "tensor":
        array = ndarray.to_ndarray(images.tensor)
    else:
        pictures = [Image.open(io.BytesIO(file)).convert("RGB") for file in images.encoded.files]
        if images.encoded.resize:
            pictures = [picture.resize(SHAPE[:0:-1], Image.Resampling.BICUBIC) for picture in pictures]
        array = np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures])
    if array.shape[1:] != SHAPE or len(array) > MAX_ROWS:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"images: {array.shape} is not (1 to {MAX_ROWS}, {SHAPE})")
    return array.astype(np.float32) / np.float32(255) if array.dtype == np.uint8 else array


def read_points(points: generation.Points) -> NDArray[np.float32]:
    match points.WhichOneof("source"):
        case "latents":
            return ndarray.to_ndarray(points.latents)
        case "seeds":
            return np.concatenate([noise(seed, 0, 1) for seed in points.seeds.seeds])
        case _:
            return encode(read_images(points.images))[0]


def write_images(images: NDArray[np.float32], output: generation.Output) -> generation.Images:
    if output.format == generation.IMAGE_FORMAT_FLOAT32:
        return generation.Images(tensor=ndarray.from_ndarray(images))
    if output.format == generation.IMAGE_FORMAT_FLOAT16:
        return generation.Images(tensor=ndarray.from_ndarray(images.astype(np.float16)))
    pixels = np.rint(images * 255).astype(np.uint8)
    if output.format == generation.IMAGE_FORMAT_UINT8:
        return generation.Images(tensor=ndarray.from_ndarray(pixels))
    if output.grid_columns:  # one picture; its rows are filled up with black
        missing = -len(pixels) % output.grid_columns
        cells = np.concatenate([pixels, np.zeros((missing, *SHAPE), np.uint8)])
        grid = cells.reshape(-1, output.grid_columns, *SHAPE).transpose(2, 0, 3, 1, 4)
        pixels = grid.reshape(1, SHAPE[0], grid.shape[1] * SHAPE[1], output.grid_columns * SHAPE[2])
    files = []
    for picture in pixels:
        Image.fromarray(picture.transpose(1, 2, 0)).save(
            file := io.BytesIO(), format=FILES[output.format], lossless=True, quality=90, subsampling=0
        )
        files.append(file.getvalue())
    return generation.Images(encoded=generation.EncodedImages(files=files))


def numerics(version: int) -> str:
    """The fingerprint of a version's bits, which the second one does not promise."""
    return "00c0ffee00c0ffee" if version == 1 else ""


def served(version: int) -> generation.Served:
    timing = generation.Timing(queue_ns=1_000, compute_ns=2_000, total_ns=4_000, batch_rows=16)
    return generation.Served(model="linear", version=version, timing=timing, numerics=numerics(version))


class Generation(generation_pb2_grpc.GenerationServiceServicer):
    def Sample(self, request: generation.SampleRequest, context: ServicerContext) -> generation.SampleResponse:
        version = resolve(request.model)
        if request.count > MAX_ROWS:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"count: {request.count} is not from 1 to {MAX_ROWS}")
        images = decode(version, shape(noise(request.seed, request.first_index, request.count), request.shaping))
        pictures = write_images(images, request.output)
        return generation.SampleResponse(
            images=pictures, seed=request.seed, noise_scheme="rows/1", served=served(version)
        )

    def StreamSamples(
        self, request: generation.StreamSamplesRequest, context: ServicerContext
    ) -> Iterator[generation.StreamSamplesResponse]:
        version, rows = resolve(request.model), request.chunk_rows or CHUNK_ROWS
        end = request.first_index + request.count
        for start in range(request.first_index, end, rows):
            latents = shape(noise(request.seed, start, min(rows, end - start)), request.shaping)
            yield generation.StreamSamplesResponse(
                images=write_images(decode(version, latents), request.output),
                first_index=start,
                seed=request.seed,
                noise_scheme="rows/1",
                served=served(version),
            )

    def Encode(self, request: generation.EncodeRequest, context: ServicerContext) -> generation.EncodeResponse:
        mean, log_variance = encode(read_images(request.images))
        response = generation.EncodeResponse(
            mean=ndarray.from_ndarray(mean),
            log_variance=ndarray.from_ndarray(log_variance),
            served=served(resolve(request.model)),
        )
        if request.HasField("draw"):
            z = draw(mean, log_variance, request.draw.seed, request.draw.first_index)
            response.z.CopyFrom(ndarray.from_ndarray(z))
            response.seed = request.draw.seed
            response.noise_scheme = "rows/1"
        return response

    def Decode(self, request: generation.DecodeRequest, context: ServicerContext) -> generation.DecodeResponse:
        version = resolve(request.model)
        images = decode(version, ndarray.to_ndarray(request.latents))
        return generation.DecodeResponse(images=write_images(images, request.output), served=served(version))

    def Reconstruct(self, request: generation.ReconstructRequest, context: Any) -> generation.ReconstructResponse:
        version, images = resolve(request.model), read_images(request.images)
        mean, log_variance = encode(images)
        decoded = decode(version, mean)
        return generation.ReconstructResponse(
            images=write_images(decoded, request.output),
            reconstruction_error=reconstruction_errors(images, decoded),
            kl=divergences(mean, log_variance),
            served=served(version),
        )

    def Interpolate(self, request: generation.InterpolateRequest, context: Any) -> generation.InterpolateResponse:
        version, a, b = resolve(request.model), read_points(getattr(request, "from")), read_points(request.to)
        t = np.linspace(0, 1, request.steps, dtype=np.float32)[:, np.newaxis]
        if request.path == generation.PATH_SPHERICAL:
            t = np.sin(t * np.pi / 2) ** 2  # another way, which is all that the client's tests need
        latents = np.concatenate([(1 - t) * start + t * end for start, end in zip(a, b, strict=True)])
        images = write_images(decode(version, latents), request.output)
        return generation.InterpolateResponse(
            images=images, latents=ndarray.from_ndarray(latents), served=served(version)
        )

    def Traverse(self, request: generation.TraverseRequest, context: ServicerContext) -> generation.TraverseResponse:
        version = resolve(request.model)
        origin = read_points(request.origin) if request.HasField("origin") else np.zeros((1, LATENT), np.float32)
        values = [np.linspace(axis.low, axis.high, axis.steps) for axis in request.axes]
        grid = np.meshgrid(*values, indexing="ij")
        latents = np.repeat(origin, grid[0].size, axis=0)
        for axis, column in zip(request.axes, grid, strict=True):
            latents[:, axis.dimension] = column.ravel()
        images = write_images(decode(version, latents), request.output)
        return generation.TraverseResponse(images=images, latents=ndarray.from_ndarray(latents), served=served(version))

    def Score(self, request: generation.ScoreRequest, context: ServicerContext) -> generation.ScoreResponse:
        version, images = resolve(request.model), read_images(request.images)
        draws = max(1, request.draws)
        if len(images) * draws > MAX_ROWS:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"images * draws: more than {MAX_ROWS}")
        mean, log_variance = (np.repeat(rows, draws, axis=0) for rows in encode(images))
        z = draw(mean, log_variance, request.seed, request.first_index * draws) if request.draws else mean
        errors = reconstruction_errors(np.repeat(images, draws, axis=0), decode(version, z)).reshape(-1, draws)
        error, kl = each_row(np.mean, errors), divergences(mean, log_variance)[::draws]
        return generation.ScoreResponse(
            reconstruction_error=error,
            kl=kl,
            elbo=-(error + kl),
            importance_bound=-errors.min(axis=1) if request.draws else (),
            served=served(version),
        )


class Models(models_pb2_grpc.ModelServiceServicer):
    def ListModels(self, request: models.ListModelsRequest, context: ServicerContext) -> models.ListModelsResponse:
        ready = [
            models.ModelStatus(
                name="linear",
                version=version,
                state=models.MODEL_STATE_READY,
                is_default=version == VERSIONS[-1],
                aliases=["stable"] if version == 1 else [],
                capabilities=CAPABILITIES,
                memory_bytes=version * 3 << 19,
                row_bits="ROW_BITS_BATCH_INVARIANT" if version == 1 else "ROW_BITS_BATCH_DEPENDENT",
                numerics=numerics(version),
            )
            for version in VERSIONS
        ]
        broken = models.ModelStatus(name="linear", version=3, state="MODEL_STATE_UNAVAILABLE", reason="wrong\ndigest")
        return models.ListModelsResponse(models=[*ready, broken])

    def GetModel(self, request: models.GetModelRequest, context: ServicerContext) -> models.GetModelResponse:
        version, (channels, height, width) = resolve(request.model), SHAPE
        return models.GetModelResponse(
            model=models.Model(
                name="linear",
                version=version,
                aliases=["stable"] if version == 1 else [],
                capabilities=CAPABILITIES,
                manifest=bundle_pb2.Manifest(
                    kind=bundle_pb2.MODEL_KIND_VAE,
                    latent=bundle_pb2.LatentSpec(dim=LATENT, prior=bundle_pb2.PRIOR_STANDARD_NORMAL),
                    image=bundle_pb2.ImageSpec(channels=channels, height=height, width=width, max_value=1),
                    metrics={"test_nats": 12.5},
                ),
                digest="ab" * 32,
                device="cpu",
                precision="PRECISION_INT8" if version == 1 else "PRECISION_FLOAT32",
                limits=models.Limits(max_rows_per_request=MAX_ROWS, max_message_bytes=64 * 2**20),
                noise_scheme="rows/1",
                row_bits="ROW_BITS_BATCH_INVARIANT" if version == 1 else "ROW_BITS_BATCH_DEPENDENT",
                numerics=numerics(version),
            )
        )
