"""A right request for every method and every model of a running server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from PIL import Image

from latentserve.ndarray import from_ndarray
from latentserve.oip import inference_pb2 as oip
from latentserve.v1 import bundle_pb2, models_pb2, models_pb2_grpc
from latentserve.v1 import generation_pb2 as pb

_ROWS = 3


@dataclass(frozen=True)
class Case:
    """A request, and where it goes."""

    method: str
    request: Message
    reply: type[Message] | None = None
    """The type of replies that are the same every time but for their `served`; None where they change."""

    def content_of(self, reply: bytes) -> bytes:
        """What is the same every time of a reply."""
        if self.reply is None:
            return b""
        message = self.reply.FromString(reply)
        if "served" in message.DESCRIPTOR.fields_by_name:
            message.ClearField("served")
        return message.SerializeToString(deterministic=True)


async def cases_of(channel: grpc.aio.Channel) -> tuple[tuple[str, ...], list[Case]]:
    """Names that mean something to the server, and its cases."""
    stub: Any = models_pb2_grpc.ModelServiceStub(channel)
    listed = (await stub.ListModels(models_pb2.ListModelsRequest())).models
    models = [
        (await stub.GetModel(models_pb2.GetModelRequest(model=pb.ModelRef(name=name)))).model
        for name in sorted({status.name for status in listed})
    ]
    cases = [*_health(), *_models(models[0].name)]
    for model in models:
        cases += [*_generation(model), *_inference(model)]
    names = tuple(model.name for model in models)
    return (*names, *(f"{name}@stable" for name in names), "latent", "image", "count", "seed", "UINT8"), cases


def _generation(model: models_pb2.Model) -> Iterator[Case]:
    def case(name: str, **fields: Any) -> Case:
        request, reply = (getattr(pb, f"{name}{end}") for end in ("Request", "Response"))
        return Case(f"/latentserve.v1.GenerationService/{name}", request(model=ref, **fields), reply)

    ref, dim = pb.ModelRef(name=model.name), model.manifest.latent.dim
    latents = np.linspace(-1, 1, _ROWS * dim, dtype=np.float32).reshape(_ROWS, dim)
    points = pb.Points(latents=from_ndarray(latents)), pb.Points(seeds=pb.Seeds(seeds=[1, 2, 3]))
    for form in pb.ImageFormat.DESCRIPTOR.values_by_name:
        output = pb.Output(format=form)
        yield case("Sample", count=_ROWS, seed=5, output=output, shaping=pb.Shaping(temperature=0.5, truncation=2.0))
        yield case("Decode", latents=from_ndarray(latents), output=output)
    grid = pb.Output(format=pb.IMAGE_FORMAT_PNG, grid_columns=2)
    yield case("StreamSamples", count=9, seed=5, chunk_rows=4, priority=pb.PRIORITY_BULK)
    yield case("Interpolate", **{"from": points[0], "to": points[1]}, steps=3, path=pb.PATH_SPHERICAL, output=grid)
    one = pb.Points(seeds=pb.Seeds(seeds=[1]))
    yield case("Traverse", origin=one, axes=[pb.Axis(dimension=0, low=-2, high=2, steps=3)])
    if models_pb2.CAPABILITY_ENCODE not in model.capabilities:
        return
    for images in _images(model.manifest.image):
        yield case("Encode", images=images, draw=pb.Draw(seed=1))
        yield case("Reconstruct", images=images, output=grid)
        yield case("Score", images=images, draws=2, seed=3)


def _images(image: bundle_pb2.ImageSpec) -> Iterator[pb.Images]:
    sizes = image.channels, image.height, image.width
    pixels = np.arange(_ROWS * np.prod(sizes), dtype=np.uint64).astype(np.uint8).reshape(_ROWS, *sizes)
    yield pb.Images(tensor=from_ndarray(pixels))
    yield pb.Images(tensor=from_ndarray(pixels.astype(np.float32) / 255))
    for form in ("PNG", "JPEG", "GIF"):
        files = []
        for row in pixels:
            file = io.BytesIO()
            Image.fromarray(row.transpose(1, 2, 0).squeeze()).resize((40, 30)).save(file, form)
            files.append(file.getvalue())
        yield pb.Images(encoded=pb.EncodedImages(files=files, resize=True))


def _inference(model: models_pb2.Model) -> Iterator[Case]:
    latents = np.linspace(-1, 1, _ROWS * model.manifest.latent.dim, dtype=np.float32).reshape(_ROWS, -1)
    for raw in (True, False):
        request = oip.ModelInferRequest(model_name=model.name, id="a")
        tensor = request.inputs.add(name="latent", datatype="FP32", shape=latents.shape)
        if raw:
            request.raw_input_contents.append(latents.tobytes())
        else:
            tensor.contents.fp32_contents.extend(latents.ravel().tolist())
        yield _oip("ModelInfer", request, oip.ModelInferResponse)
        yield _oip("ModelStreamInfer", request, oip.ModelStreamInferResponse)
    yield _oip("ModelMetadata", oip.ModelMetadataRequest(name=model.name), oip.ModelMetadataResponse)
    yield _oip("ModelConfig", oip.ModelConfigRequest(name=model.name), oip.ModelConfigResponse)
    yield _oip("ModelReady", oip.ModelReadyRequest(name=model.name), oip.ModelReadyResponse)
    yield _oip("ModelStatistics", oip.ModelStatisticsRequest(name=model.name))


def _oip(name: str, request: Message, reply: type[Message] | None = None) -> Case:
    return Case(f"/inference.GRPCInferenceService/{name}", request, reply)


def _health() -> Iterator[Case]:
    yield _oip("ServerLive", oip.ServerLiveRequest(), oip.ServerLiveResponse)
    yield _oip("ServerReady", oip.ServerReadyRequest(), oip.ServerReadyResponse)
    yield _oip("ServerMetadata", oip.ServerMetadataRequest(), oip.ServerMetadataResponse)
    yield _oip("RepositoryIndex", oip.RepositoryIndexRequest(), oip.RepositoryIndexResponse)
    check = health_pb2.HealthCheckRequest(service="latentserve.v1.GenerationService")
    yield Case("/grpc.health.v1.Health/Check", check, health_pb2.HealthCheckResponse)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    for version in ("v1", "v1alpha"):
        method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        yield Case(method, ask, reflection_pb2.ServerReflectionResponse)


def _models(name: str) -> Iterator[Case]:
    service = "/latentserve.v1.ModelService"
    yield Case(f"{service}/ListModels", models_pb2.ListModelsRequest(), models_pb2.ListModelsResponse)
    request = models_pb2.GetModelRequest(model=pb.ModelRef(name=name))
    yield Case(f"{service}/GetModel", request, models_pb2.GetModelResponse)
