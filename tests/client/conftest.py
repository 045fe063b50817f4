# ruff: noqa: N802  (the contract names the methods)
"""A server for the client to call: the contract of proto/latentserve/v1, on a linear model small enough to read.

The encoder's mean is the image's first LATENT values, the decoder is sigmoid(z W_version).
"""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import ServicerContext
from numpy.typing import NDArray
from PIL import Image

from latentserve import ndarray
from latentserve.v1 import bundle_pb2, generation_pb2_grpc, models_pb2_grpc
from latentserve.v1 import generation_pb2 as generation
from latentserve.v1 import models_pb2 as models
from latentserve_client import CHANNEL_OPTIONS, AsyncClient, Client

LATENT = 5
SHAPE = (3, 4, 6)
MAX_ROWS, VERSIONS = 8, (1, 2)
CAPABILITIES = [models.Capability.Name(number) for number in models.Capability.values()[1:]]


class Refusal(Exception):
    """What the server says instead of a reply: a status and a message."""


def noise(seed: int, first_index: int, rows: int) -> NDArray[np.float32]:
    draws = [np.random.default_rng([seed, first_index + row]).standard_normal(LATENT) for row in range(rows)]
    return np.array(draws, np.float32)


def decode(version: int, latents: NDArray[np.float32]) -> NDArray[np.float32]:
    if latents.shape[1] != LATENT:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"latents: {latents.shape[1]} columns, not {LATENT}")
    weights = np.random.default_rng(version).standard_normal((LATENT, int(np.prod(SHAPE)))).astype(np.float32)
    images: NDArray[np.float32] = 1 / (1 + np.exp(-latents @ weights))
    return images.reshape(-1, *SHAPE)


def encode(images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean = images.reshape(len(images), -1)[:, :LATENT]
    return mean, -mean


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
        array = np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures])
    if array.shape[1:] != SHAPE or len(array) > MAX_ROWS:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"images: {array.shape} is not (1 to {MAX_ROWS}, {SHAPE})")
    return array.astype(np.float32) / np.float32(255) if array.dtype == np.uint8 else array


def write_images(images: NDArray[np.float32], output: generation.Output) -> generation.Images:
    if output.format == generation.IMAGE_FORMAT_FLOAT32:
        return generation.Images(tensor=ndarray.from_ndarray(images))
    pixels = np.rint(images * 255).astype(np.uint8)
    if output.format == generation.IMAGE_FORMAT_UINT8:
        return generation.Images(tensor=ndarray.from_ndarray(pixels))
    files = []
    for picture in pixels:
        Image.fromarray(picture.transpose(1, 2, 0)).save(file := io.BytesIO(), format="PNG")
        files.append(file.getvalue())
    return generation.Images(encoded=generation.EncodedImages(files=files))


def served(version: int) -> generation.Served:
    timing = generation.Timing(queue_ns=1_000, compute_ns=2_000, total_ns=4_000)
    return generation.Served(model="linear", version=version, timing=timing)


class Generation(generation_pb2_grpc.GenerationServiceServicer):
    def Sample(self, request: generation.SampleRequest, context: ServicerContext) -> generation.SampleResponse:
        version = resolve(request.model)
        if request.count > MAX_ROWS:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"count: {request.count} is not from 1 to {MAX_ROWS}")
        images = decode(version, noise(request.seed, request.first_index, request.count))
        pictures = write_images(images, request.output)
        return generation.SampleResponse(
            images=pictures, seed=request.seed, noise_scheme="rows/1", served=served(version)
        )

    def Encode(self, request: generation.EncodeRequest, context: ServicerContext) -> generation.EncodeResponse:
        mean, log_variance = encode(read_images(request.images))
        response = generation.EncodeResponse(
            mean=ndarray.from_ndarray(mean),
            log_variance=ndarray.from_ndarray(log_variance),
            served=served(resolve(request.model)),
        )
        if request.HasField("draw"):
            z = mean + np.exp(log_variance / 2) * noise(request.draw.seed, request.draw.first_index, len(mean))
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
        error = -(images * np.log(decoded) + (1 - images) * np.log1p(-decoded)).sum(axis=(1, 2, 3))
        kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(axis=1)
        return generation.ReconstructResponse(
            images=write_images(decoded, request.output), reconstruction_error=error, kl=kl, served=served(version)
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
            )
            for version in VERSIONS
        ]
        broken = models.ModelStatus(name="linear", version=3, state="MODEL_STATE_UNAVAILABLE", reason="wrong\ndigest")
        return models.ListModelsResponse(models=[*ready, broken])

    def GetModel(self, request: models.GetModelRequest, context: ServicerContext) -> models.GetModelResponse:
        version = resolve(request.model)
        channels, height, width = SHAPE
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
                limits=models.Limits(max_rows_per_request=MAX_ROWS, max_message_bytes=64 * 2**20),
                noise_scheme="rows/1",
            )
        )


@dataclass
class Calls(grpc.ServerInterceptor):
    """Notes every attempt, sends its request id back and answers it with the next fault, if there is one."""

    attempts: list[tuple[str, str, Any]]
    stalled: queue.Queue[str]
    faults: list[Any]

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(details)
        request_id = str(dict(details.invocation_metadata)["x-request-id"])
        method = details.method.rpartition("/")[2]

        def answer(request: Any, context: ServicerContext) -> Any:
            self.attempts.append((method, request_id, request))
            fault = self.faults.pop(0) if self.faults else None
            context.set_trailing_metadata((("x-request-id", request_id),))
            if isinstance(fault, grpc.StatusCode):
                context.abort(fault, f"told to say {fault.name}")
            if fault == "stall":
                context.add_callback((gone := threading.Event()).set)
                self.stalled.put(request_id)
                gone.wait()
            try:
                response = handler.unary_unary(request, context)
            except Refusal as refusal:
                context.abort(*refusal.args)
            if callable(fault):
                fault(response)
            return response

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


@pytest.fixture
def attempts() -> list[tuple[str, str, Any]]:
    """Method, request id and request of every attempt that reached the server, retries included."""
    return []


@pytest.fixture
def stalled() -> queue.Queue[str]:
    """The request ids of the calls that the server is sitting on."""
    return queue.Queue()


@pytest.fixture
def faults() -> list[Any]:
    """What the server does with the next attempts: a status to say, "stall", or a function that spoils the reply."""
    return []


@pytest.fixture
def target(attempts: list[tuple[str, str, Any]], stalled: queue.Queue[str], faults: list[Any]) -> Iterator[str]:
    """The address of a running server."""
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, interceptors=[Calls(attempts, stalled, faults)], options=CHANNEL_OPTIONS)
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(Generation(), server)
        models_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(grace=None).wait()


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "asyncio"])
def invoke(request: pytest.FixtureRequest, target: str) -> Callable[..., Awaitable[Any]]:
    """Calls a method of a fresh client of either kind: `await invoke("sample", "linear", 4, seed=1)`."""

    async def invoke(method: str, *args: Any, **kwargs: Any) -> Any:
        if request.param is Client:
            with Client(target) as client:
                return getattr(client, method)(*args, **kwargs)
        async with AsyncClient(target) as client:
            return await getattr(client, method)(*args, **kwargs)

    return invoke
