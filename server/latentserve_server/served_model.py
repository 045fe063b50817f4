"""One READY model version: what its calls mean, in rows of latents and images. Knows no transport."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2, models_pb2
from latentserve_server.batcher import Batcher
from latentserve_server.call import Arrays, Outcome
from latentserve_server.engine import Device
from latentserve_server.errors import CapabilityMissing, InvalidArgument
from latentserve_server.nats import bernoulli_nats, gaussian_kl_nats
from latentserve_server.noise import MAX_INDEX, NoiseSource, Stream
from latentserve_server.workers import Workers

Float32 = NDArray[np.float32]

_CAPABILITIES = {
    bundle_pb2.MODEL_KIND_VAE: (
        models_pb2.CAPABILITY_SAMPLE,
        models_pb2.CAPABILITY_ENCODE,
        models_pb2.CAPABILITY_DECODE,
        models_pb2.CAPABILITY_RECONSTRUCT,
    ),
    bundle_pb2.MODEL_KIND_GAN: (models_pb2.CAPABILITY_SAMPLE, models_pb2.CAPABILITY_DECODE),
}


class PixelForm(Enum):
    """The form in which a decoder gives images; the value is the output's name in the graph."""

    FLOAT32 = "image"
    UINT8 = "image_uint8"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one call may ask and what may wait."""

    max_rows_per_request: int
    max_batch_rows: int
    max_queue_rows: int
    max_queue_bytes: int
    max_message_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which version of which model, opened from what, on what device."""

    name: str
    version: int
    digest: str
    device: Device


@dataclass(frozen=True, slots=True)
class Spent:
    """Time a call waited for the engine, and had it, in nanoseconds."""

    queue_ns: int
    compute_ns: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """Images [n, channels, height, width], float32 or uint8; `seed` where they were sampled."""

    images: NDArray[Any]
    spent: Spent
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """Posterior parameters [n, latent_dim], and the latents drawn from them where that was asked for."""

    mean: Float32
    log_variance: Float32
    spent: Spent
    z: Float32 | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Reconstructed:
    """Images [n, channels, height, width] and what each cost, in nats [n]."""

    images: NDArray[Any]
    reconstruction_error: Float32
    kl: Float32
    spent: Spent


class ServedModel:
    """Answers calls for one model version, with one batcher for each of its graphs."""

    def __init__(
        self,
        identity: Identity,
        manifest: bundle_pb2.Manifest,
        limits: Limits,
        batchers: Mapping[bundle_pb2.GraphRole, Batcher],
        *,
        noise: NoiseSource,
        workers: Workers,
        release: Callable[[], Awaitable[None]],
    ) -> None:
        """`release` frees what the batchers ran on; it is awaited once they are closed."""
        self.identity = identity
        self.manifest = manifest
        self.limits = limits
        self.capabilities = _CAPABILITIES[manifest.kind]
        self._batchers = batchers
        self._noise = noise
        self._workers = workers
        self._release = release

    async def sample(self, count: int, seed: int | None, first_index: int, form: PixelForm, deadline: float) -> Decoded:
        """Rows `first_index` to `first_index + count - 1` of the seed's images."""
        self._check_rows("count", count)
        _check_indices("first_index", first_index, count)
        seed = secrets.randbits(64) if seed is None else seed
        dim = self.manifest.latent.dim
        latents = await self._workers.run(
            4 * count * dim, self._noise.draw, seed, first_index, count, dim, Stream.PRIOR
        )
        decoded = await self._run(bundle_pb2.GRAPH_ROLE_DECODER, {"latent": latents}, (form.value,), deadline)
        return Decoded(decoded.outputs[form.value], _spent(decoded), seed)

    async def decode(self, latents: Float32, form: PixelForm, deadline: float) -> Decoded:
        """The images of latents [n, latent_dim]."""
        self._check_rows("latents", len(latents))
        decoded = await self._run(bundle_pb2.GRAPH_ROLE_DECODER, {"latent": latents}, (form.value,), deadline)
        return Decoded(decoded.outputs[form.value], _spent(decoded))

    async def encode(self, images: Float32, deadline: float) -> Encoded:
        """The posteriors of images [n, channels, height, width]."""
        self._demand(models_pb2.CAPABILITY_ENCODE)
        self._check_rows("images", len(images))
        encoded = await self._run(bundle_pb2.GRAPH_ROLE_ENCODER, {"image": images}, ("mean", "log_variance"), deadline)
        return Encoded(encoded.outputs["mean"], encoded.outputs["log_variance"], _spent(encoded))

    async def encode_and_draw(self, images: Float32, seed: int | None, first_index: int, deadline: float) -> Encoded:
        """The posteriors of images, and one latent from each: mean + exp(log_variance / 2) * noise."""
        _check_indices("draw.first_index", first_index, len(images))
        encoded = await self.encode(images, deadline)
        seed = secrets.randbits(64) if seed is None else seed
        z = await self._workers.run(encoded.mean.nbytes, self._draw_posterior, encoded, seed, first_index)
        return Encoded(encoded.mean, encoded.log_variance, encoded.spent, z, seed)

    async def reconstruct(self, images: Float32, form: PixelForm, deadline: float) -> Reconstructed:
        """The images decoded from the posterior means of images, and what each cost."""
        self._demand(models_pb2.CAPABILITY_RECONSTRUCT)
        encoded = await self.encode(images, deadline)
        decoded = await self._run(
            bundle_pb2.GRAPH_ROLE_DECODER, {"latent": encoded.mean}, (form.value, "logits"), deadline
        )
        logits = decoded.outputs["logits"]
        error = await self._workers.run(images.nbytes, bernoulli_nats, images, logits)
        kl = await self._workers.run(encoded.mean.nbytes, gaussian_kl_nats, encoded.mean, encoded.log_variance)
        spent = Spent(encoded.spent.queue_ns + decoded.queue_ns, encoded.spent.compute_ns + decoded.compute_ns)
        return Reconstructed(decoded.outputs[form.value], error, kl, spent)

    async def close(self) -> None:
        """Let what runs end, refuse what waits, free the engines."""
        for batcher in self._batchers.values():
            await batcher.close()
        await self._release()

    def _draw_posterior(self, encoded: Encoded, seed: int, first_index: int) -> Float32:
        rows, dim = encoded.mean.shape
        noise = self._noise.draw(seed, first_index, rows, dim, Stream.POSTERIOR)
        deviation: Float32 = np.exp(encoded.log_variance * np.float32(0.5))
        return encoded.mean + deviation * noise

    async def _run(
        self, role: bundle_pb2.GraphRole, inputs: Arrays, outputs: tuple[str, ...], deadline: float
    ) -> Outcome:
        return await self._batchers[role].submit(inputs, outputs, deadline=deadline)

    def _demand(self, capability: models_pb2.Capability) -> None:
        if capability not in self.capabilities:
            verb = models_pb2.Capability.Name(capability).removeprefix("CAPABILITY_").lower()
            kind = bundle_pb2.ModelKind.Name(self.manifest.kind).removeprefix("MODEL_KIND_")
            raise CapabilityMissing(f"model {self.identity.name!r} is a {kind} and cannot {verb}")

    def _check_rows(self, field: str, rows: int) -> None:
        limit = self.limits.max_rows_per_request
        if not 1 <= rows <= limit:
            raise InvalidArgument(field, f"{rows} rows; 1 to {limit} are allowed")


def _check_indices(field: str, first_index: int, count: int) -> None:
    if first_index + count > MAX_INDEX:
        raise InvalidArgument(field, f"{first_index} + {count} rows is over 2^48")


def _spent(outcome: Outcome) -> Spent:
    return Spent(outcome.queue_ns, outcome.compute_ns)
