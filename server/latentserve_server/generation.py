"""GenerationService on the wire: decode the request, call the model, encode the reply."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import grpc
from numpy.typing import NDArray

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc
from latentserve_server.errors import InvalidArgument
from latentserve_server.images import payload_bytes, read_images, read_latents, write_images
from latentserve_server.models import resolve
from latentserve_server.noise import NOISE_SCHEME
from latentserve_server.repository import Repository
from latentserve_server.served_model import PixelForm, ServedModel, Spent
from latentserve_server.workers import Workers

Context = grpc.aio.ServicerContext[Any, Any]

_FORMS = {
    pb.IMAGE_FORMAT_UNSPECIFIED: PixelForm.FLOAT32,
    pb.IMAGE_FORMAT_FLOAT32: PixelForm.FLOAT32,
    pb.IMAGE_FORMAT_UINT8: PixelForm.UINT8,
    pb.IMAGE_FORMAT_PNG: PixelForm.UINT8,
}


class GenerationServicer(generation_pb2_grpc.GenerationServiceServicer):
    """Answers GenerationService from the repository's models."""

    def __init__(self, repository: Repository, workers: Workers) -> None:
        self._repository = repository
        self._workers = workers

    async def Sample(self, request: pb.SampleRequest, context: Context) -> pb.SampleResponse:
        """Images drawn from the prior."""
        call = _Call.begin(context)
        model = resolve(self._repository, request.model)
        form = _form(request.output)
        seed = request.seed if request.HasField("seed") else None
        sampled = await model.sample(request.count, seed, request.first_index, form, call.deadline)
        images = await self._write(sampled.images, request.output)
        return pb.SampleResponse(
            images=images, seed=sampled.seed, noise_scheme=NOISE_SCHEME, served=call.served(model, sampled.spent)
        )

    async def Encode(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:
        """Posteriors of images."""
        call = _Call.begin(context)
        model = resolve(self._repository, request.model)
        images = await self._read(request.images, model)
        if not request.HasField("draw"):
            encoded = await model.encode(images, call.deadline)
        else:
            seed = request.draw.seed if request.draw.HasField("seed") else None
            encoded = await model.encode_and_draw(images, seed, request.draw.first_index, call.deadline)
        return pb.EncodeResponse(
            mean=from_ndarray(encoded.mean),
            log_variance=from_ndarray(encoded.log_variance),
            z=None if encoded.z is None else from_ndarray(encoded.z),
            seed=encoded.seed,
            noise_scheme="" if encoded.z is None else NOISE_SCHEME,
            served=call.served(model, encoded.spent),
        )

    async def Decode(self, request: pb.DecodeRequest, context: Context) -> pb.DecodeResponse:
        """Images of latents."""
        call = _Call.begin(context)
        model = resolve(self._repository, request.model)
        form = _form(request.output)
        dim = model.manifest.latent.dim
        latents = await self._workers.run(len(request.latents.data), read_latents, request.latents, dim)
        decoded = await model.decode(latents, form, call.deadline)
        images = await self._write(decoded.images, request.output)
        return pb.DecodeResponse(images=images, served=call.served(model, decoded.spent))

    async def Reconstruct(self, request: pb.ReconstructRequest, context: Context) -> pb.ReconstructResponse:
        """Images encoded and decoded again, with what was lost."""
        call = _Call.begin(context)
        model = resolve(self._repository, request.model)
        form = _form(request.output)
        images = await self._read(request.images, model)
        reconstructed = await model.reconstruct(images, form, call.deadline)
        return pb.ReconstructResponse(
            images=await self._write(reconstructed.images, request.output),
            reconstruction_error=reconstructed.reconstruction_error,
            kl=reconstructed.kl,
            served=call.served(model, reconstructed.spent),
        )

    async def _read(self, images: pb.Images, model: ServedModel) -> NDArray[Any]:
        return await self._workers.run(
            payload_bytes(images), read_images, images, model.manifest.image, model.limits.max_rows_per_request
        )

    async def _write(self, images: NDArray[Any], output: pb.Output) -> pb.Images:
        return await self._workers.run(images.nbytes, write_images, images, output.format)


@dataclass(frozen=True, slots=True)
class _Call:
    """When a call began, and until when its caller waits, in seconds of the monotonic clock, which the loop keeps."""

    began_ns: int
    deadline: float

    @classmethod
    def begin(cls, context: Context) -> _Call:
        remaining = context.time_remaining()
        began_ns = time.monotonic_ns()
        return cls(began_ns, float("inf") if remaining is None else began_ns / 1e9 + remaining)

    def served(self, model: ServedModel, spent: Spent) -> pb.Served:
        timing = pb.Timing(
            queue_ns=spent.queue_ns, compute_ns=spent.compute_ns, total_ns=time.monotonic_ns() - self.began_ns
        )
        return pb.Served(model=model.identity.name, version=model.identity.version, timing=timing)


def _form(output: pb.Output) -> PixelForm:
    try:
        return _FORMS[output.format]
    except KeyError:
        allowed = ", ".join(pb.ImageFormat.Name(known) for known in _FORMS)
        raise InvalidArgument("output.format", f"{output.format} is not one of {allowed}") from None
