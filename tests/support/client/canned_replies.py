# ruff: noqa: N802  (the contract names the methods)
"""Replies of the right form from a server without a model: row `index` of a seed is an image that shows both."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
from grpc import ServicerContext
from numpy.typing import NDArray
from PIL import Image

from latentserve import ndarray
from latentserve.v1 import bundle_pb2, generation_pb2_grpc, models_pb2_grpc
from latentserve.v1 import generation_pb2 as generation
from latentserve.v1 import models_pb2 as models

LATENT, SHAPE, MAX_ROWS, CHUNK_ROWS, VERSIONS = 5, (3, 4, 6), 8, 4, (1, 2)
CAPABILITIES = [models.Capability.Name(number) for number in models.Capability.values()[1:]]
DTYPES: dict[int, Any] = {
    generation.IMAGE_FORMAT_FLOAT32: np.float32,
    generation.IMAGE_FORMAT_FLOAT16: np.float16,
    generation.IMAGE_FORMAT_UINT8: np.uint8,
}


class Refusal(Exception):
    """What the server says instead of a reply: a status and a message."""


def drawn(seed: int, first_index: int, rows: int) -> NDArray[np.uint8]:
    """Images uint8 [rows, *SHAPE], of which each is one level of grey, the next row's one more."""
    levels = [(seed + first_index + row) % 256 for row in range(rows)]
    return np.stack([np.full(SHAPE, level, np.uint8) for level in levels])


def resolve(ref: generation.ModelRef) -> int:
    version = {"stable": 1}.get(ref.alias, 0) if ref.HasField("alias") else ref.version or VERSIONS[-1]
    if ref.name != "linear" or version not in VERSIONS:
        raise Refusal(grpc.StatusCode.NOT_FOUND, f"model: there is no {ref.name!r} of that version or alias")
    return version


def count_images(images: generation.Images) -> int:
    if images.WhichOneof("payload") == "encoded":
        return len(images.encoded.files)
    rows, *shape = images.tensor.shape
    if (*shape,) != SHAPE:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"images: {shape} is not {SHAPE}")
    return int(rows)


def write_images(pixels: NDArray[np.uint8], output: generation.Output) -> generation.Images:
    if dtype := DTYPES.get(output.format):
        images = pixels if dtype is np.uint8 else (pixels / 255).astype(dtype)
        return generation.Images(tensor=ndarray.from_ndarray(images))
    files = []
    for picture in pixels[:1] if output.grid_columns else pixels:
        Image.fromarray(picture.transpose(1, 2, 0)).save(file := io.BytesIO(), format="PNG")
        files.append(file.getvalue())
    return generation.Images(encoded=generation.EncodedImages(files=files))


def latents(rows: int) -> Any:
    return ndarray.from_ndarray(np.zeros((rows, LATENT), np.float32))


def numerics(version: int) -> str:
    """The fingerprint of a version's bits, which the second one does not promise."""
    return "00c0ffee00c0ffee" if version == 1 else ""


def served(ref: generation.ModelRef) -> generation.Served:
    version = resolve(ref)
    timing = generation.Timing(queue_ns=1_000, compute_ns=2_000, total_ns=4_000, batch_rows=16)
    return generation.Served(model="linear", version=version, timing=timing, numerics=numerics(version))


class Generation(generation_pb2_grpc.GenerationServiceServicer):
    def Sample(self, request: generation.SampleRequest, context: ServicerContext) -> generation.SampleResponse:
        return generation.SampleResponse(
            images=write_images(drawn(request.seed, request.first_index, request.count), request.output),
            seed=request.seed,
            noise_scheme="rows/1",
            served=served(request.model),
        )

    def StreamSamples(
        self, request: generation.StreamSamplesRequest, context: ServicerContext
    ) -> Iterator[generation.StreamSamplesResponse]:
        rows, end = request.chunk_rows or CHUNK_ROWS, request.first_index + request.count
        for start in range(request.first_index, end, rows):
            yield generation.StreamSamplesResponse(
                images=write_images(drawn(request.seed, start, min(rows, end - start)), request.output),
                first_index=start,
                seed=request.seed,
                noise_scheme="rows/1",
                served=served(request.model),
            )

    def Encode(self, request: generation.EncodeRequest, context: ServicerContext) -> generation.EncodeResponse:
        rows = count_images(request.images)
        response = generation.EncodeResponse(
            mean=latents(rows), log_variance=latents(rows), served=served(request.model)
        )
        if request.HasField("draw"):
            response.z.CopyFrom(latents(rows))
            response.seed, response.noise_scheme = request.draw.seed, "rows/1"
        return response

    def Decode(self, request: generation.DecodeRequest, context: ServicerContext) -> generation.DecodeResponse:
        images = write_images(drawn(0, 0, request.latents.shape[0]), request.output)
        return generation.DecodeResponse(images=images, served=served(request.model))

    def Reconstruct(self, request: generation.ReconstructRequest, context: Any) -> generation.ReconstructResponse:
        rows = count_images(request.images)
        images = write_images(drawn(0, 0, rows), request.output)
        costs = [1.5] * rows
        return generation.ReconstructResponse(
            images=images, reconstruction_error=costs, kl=costs, served=served(request.model)
        )

    def Interpolate(self, request: generation.InterpolateRequest, context: Any) -> generation.InterpolateResponse:
        paths = len(request.to.seeds.seeds) or request.to.latents.shape[0]
        rows = paths * request.steps
        images = write_images(drawn(0, 0, rows), request.output)
        return generation.InterpolateResponse(images=images, latents=latents(rows), served=served(request.model))

    def Traverse(self, request: generation.TraverseRequest, context: ServicerContext) -> generation.TraverseResponse:
        rows = int(np.prod([axis.steps for axis in request.axes]))
        images = write_images(drawn(0, 0, rows), request.output)
        return generation.TraverseResponse(images=images, latents=latents(rows), served=served(request.model))

    def Score(self, request: generation.ScoreRequest, context: ServicerContext) -> generation.ScoreResponse:
        costs = [1.5] * count_images(request.images)
        bound = [-2.0 for _ in costs] if request.draws else []
        return generation.ScoreResponse(
            reconstruction_error=costs,
            kl=costs,
            elbo=[-3.0 for _ in costs],
            importance_bound=bound,
            map=write_images(drawn(0, 0, len(costs)), request.map) if request.HasField("map") else None,
            served=served(request.model),
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
