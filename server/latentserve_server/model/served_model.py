"""A loaded model version: what it is, and its calls in rows of latents and images."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2, models_pb2
from latentserve_server.batching.batch import Inputs
from latentserve_server.batching.batcher import Batcher
from latentserve_server.batching.scheduling import Result, Scheduling
from latentserve_server.engine import Arrays, Device, TensorSpec
from latentserve_server.errors import CapabilityMissing, InvalidArgument, NotFinite
from latentserve_server.latent.labels import Int64
from latentserve_server.latent.likelihood import LIKELIHOODS
from latentserve_server.latent.noise import Draw, NoiseSource, Stream
from latentserve_server.latent.noise_inputs import NoiseInputs
from latentserve_server.latent.prior import STANDARD_NORMAL, Prior, PriorSource
from latentserve_server.latent.scores import Scores, draw_latents, score_at_mean, score_draws
from latentserve_server.latent.shape import shape_of
from latentserve_server.model.answers import Decoded, Encoded, Reconstructed, Scored
from latentserve_server.model.requests import (
    DecodeRequest,
    EncodeRequest,
    ReconstructRequest,
    SampleRequest,
    ScoreRequest,
)
from latentserve_server.workers import Workers

Float32 = NDArray[np.float32]
T = TypeVar("T")

REPLY_OVERHEAD_BYTES = 1 << 16
"""What a reply holds besides its rows, generously."""

_ENCODER, _DECODER = bundle_pb2.GRAPH_ROLE_ENCODER, bundle_pb2.GRAPH_ROLE_DECODER
_CAPABILITIES = {
    bundle_pb2.MODEL_KIND_VAE: (
        models_pb2.CAPABILITY_SAMPLE,
        models_pb2.CAPABILITY_ENCODE,
        models_pb2.CAPABILITY_DECODE,
        models_pb2.CAPABILITY_RECONSTRUCT,
        models_pb2.CAPABILITY_SCORE,
    ),
    bundle_pb2.MODEL_KIND_GAN: (models_pb2.CAPABILITY_SAMPLE, models_pb2.CAPABILITY_DECODE),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which version of which model, opened from what, on what device."""

    name: str
    version: int
    digest: str
    device: Device
    precision: bundle_pb2.Precision = bundle_pb2.PRECISION_FLOAT32
    """What the decoder computes in."""
    numerics: str = ""
    """The fingerprint of the bits that its graphs compute; empty where a row's bits depend on its batch."""
    fell_back: frozenset[str] = frozenset()
    """The names of the graphs that compute in float32 because those in lower precision fell short of their manifest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one call may ask and what may wait."""

    max_rows_per_request: int
    max_batch_rows: int
    max_queue_rows: int
    max_queue_bytes: int
    max_message_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """One open graph.

    onnxruntime says nothing of what its arena holds for the values between the operators, so that is not counted.
    """

    weight_bytes: int
    """Bytes of the graph's file, which are its weights but for a few kilobytes."""
    buffer_bytes: int
    """Bytes of the inputs and outputs of its largest batch; where batches are bound, of all that are."""
    cpu_operators: Mapping[str, int]
    """Operators that the device leaves to the CPU, with the number of their nodes."""

    @property
    def memory_bytes(self) -> int:
        """Weights and buffers."""
        return self.weight_bytes + self.buffer_bytes


class ServedModel:
    """Answers calls for one model version, with one batcher for each of its graphs, and counts the leases of them."""

    def __init__(
        self,
        identity: Identity,
        manifest: bundle_pb2.Manifest,
        limits: Limits,
        batchers: Mapping[bundle_pb2.GraphRole, Batcher],
        *,
        reconstruction: Batcher | None,
        footprints: Mapping[str, Footprint],
        prior: PriorSource,
        noise: NoiseSource,
        noise_inputs: NoiseInputs | None,
        workers: Workers,
        release: Callable[[], Awaitable[None]],
    ) -> None:
        """`reconstruction` runs encoder and decoder in a row, and is absent where there is no encoder.

        `footprints` are those of the graphs, by the names of their roles. `noise_inputs` are the decoder's, or None.
        `release` frees what the batchers ran on; it is awaited once they are closed.
        """
        self.identity = identity
        self.manifest = manifest
        self.image = manifest.image
        self.tensors = _tensors(manifest)
        """What its graphs take and give, by name, in callers' shapes; axis 0, the rows, is left out."""
        self._latent_dim = manifest.latent.dim
        self.latent_shape = shape_of(manifest.latent)
        """The shape of a latent for callers; the graphs have rows of its values."""
        self.known_labels = manifest.labels.count
        """How many labels it knows; 0 where it is not conditional."""
        self.limits = limits
        self.capabilities = _CAPABILITIES[manifest.kind]
        self.footprints = footprints
        self._batchers = batchers
        self._reconstruction = reconstruction
        self.likelihood = LIKELIHOODS.get(manifest.likelihood)
        self._prior = prior
        self._noise = noise
        self._noise_inputs = noise_inputs
        self._workers = workers
        self._release = release
        self._leases = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def __enter__(self) -> ServedModel:
        """Take a lease, for the block: the model does not close within it."""
        if not self._leases:
            self._unused.clear()
        self._leases += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._leases -= 1
        if not self._leases:
            self._unused.set()

    @property
    def memory_bytes(self) -> int:
        """Bytes of its graphs, as counted."""
        return sum(footprint.memory_bytes for footprint in self.footprints.values())

    async def sample(self, request: SampleRequest) -> Decoded:
        """The images of a seed's rows."""
        rows, seed, first_index, output = request.rows, request.seed, request.first_index, request.form
        latents = None if request.sampling is STANDARD_NORMAL else self._prior.shaped(request.sampling)
        inputs: Inputs = {"latent": Draw(self._noise, self._latent_dim, seed, first_index, rows, latents)}
        if self._noise_inputs is not None:
            inputs = {**inputs, **self._noise_inputs.drawn(seed, first_index, rows)}
        labels = request.labels.of_indices(first_index, rows) if self.known_labels else None
        result = await self._batchers[_DECODER].submit(_labelled(inputs, labels), (output,), request.scheduling)
        return Decoded(result.outputs[output], result.timing, seed, labels)

    async def decode(self, latents: Float32, request: DecodeRequest) -> Decoded:
        """The images of latents [n, latent_dim].

        Raises:
            InvalidArgument: the decoder overflows on one of them; names the first such row.
        """
        labels, output = request.labels.of_rows(len(latents)), request.form
        with _blaming(request.field):
            result = await self._run(_DECODER, {"latent": latents}, (output,), request.scheduling, labels)
        return Decoded(result.outputs[output], result.timing)

    async def encode(self, images: Float32, request: EncodeRequest) -> Encoded:
        """The posteriors of images [n, channels, height, width], and a latent from each where one is to be drawn."""
        labels, outputs = request.labels.of_rows(len(images)), ("mean", "log_variance")
        result = await self._run(_ENCODER, {"image": images}, outputs, request.scheduling, labels)
        encoded = Encoded(result.outputs["mean"], result.outputs["log_variance"], result.timing)
        if request.draw is None:
            return encoded
        seed = request.draw.seed
        _, z = await self._draw_posterior(encoded, seed, request.draw.first_index, 1)
        return encoded._replace(z=z, seed=seed)

    async def reconstruct(self, images: Float32, request: ReconstructRequest) -> Reconstructed:
        """The images decoded from the posterior means of images, and what each cost."""
        inputs = _labelled({"image": images}, request.labels.of_rows(len(images)))
        output = request.form
        result, scores = await self.reconstruct_and_score(inputs, (output,), request.scheduling)
        return Reconstructed(result.outputs[output], scores.reconstruction_error, scores.kl, result.timing)

    async def reconstruct_and_score(
        self, inputs: Arrays, forms: tuple[str, ...], scheduling: Scheduling
    ) -> tuple[Result, Scores]:
        """The named forms of images, decoded from the posterior means of the encoder's inputs, and the scores there.

        One run of both graphs. The model must have an encoder.
        """
        assert self._reconstruction is not None
        assert self.likelihood is not None
        likelihood, images = self.likelihood, inputs["image"]
        wanted = tuple(dict.fromkeys((*forms, "mean", "log_variance", *likelihood.outputs)))
        result = await self._reconstruction.submit(self._noised(inputs), wanted, scheduling)
        mean, log_variance = result.outputs["mean"], result.outputs["log_variance"]
        quantiles = self.manifest.calibration.negative_elbo_quantiles
        scores = await self._workers.run(
            images.nbytes, score_at_mean, likelihood, images, mean, log_variance, result.outputs, quantiles
        )
        return result, scores

    async def score(self, images: Float32, request: ScoreRequest) -> Scored:
        """How well the model explains images."""
        assert self.likelihood is not None
        draws, scheduling = request.draws, request.scheduling
        if not draws:
            inputs = _labelled({"image": images}, request.labels.of_rows(len(images)))
            result, scores = await self.reconstruct_and_score(inputs, (), scheduling)
            return Scored(scores, result.timing)
        encoded = await self.encode(images, EncodeRequest(labels=request.labels, scheduling=scheduling))
        noise, latents = await self._draw_posterior(encoded, request.seed, request.first_index * draws, draws)
        labels = request.labels.spread(len(images), draws).of_rows(len(latents))
        result = await self._run(_DECODER, {"latent": latents}, self.likelihood.outputs, scheduling, labels)
        decoded = self.likelihood, images, encoded.mean, encoded.log_variance, result.outputs
        scores = await self._workers.run(len(latents) * images[0].nbytes, score_draws, *decoded, noise, latents)
        return Scored(scores, encoded.timing.then(result.timing))

    def prior_rows(self, seeds: Sequence[int]) -> Float32:
        """Row 0 of each seed's latents, [n, latent_dim]."""
        return np.concatenate([self._prior.draw(seed, 0, 1) for seed in seeds])

    def check_capability(self, capability: models_pb2.Capability) -> None:
        """Make sure that the model answers such calls.

        Raises:
            CapabilityMissing: it does not.
        """
        if capability not in self.capabilities:
            kind = bundle_pb2.ModelKind.Name(self.manifest.kind).removeprefix("MODEL_KIND_")
            verb = models_pb2.Capability.Name(capability).removeprefix("CAPABILITY_").lower()
            raise CapabilityMissing(f"model {self.identity.name!r} is a {kind} and cannot {verb}")

    def check_prior(self, prior: Prior) -> None:
        """Make sure that the model has the prior.

        Raises:
            CapabilityMissing: it has not.
        """
        self._prior.check(prior)

    def check_rows(self, field: str, rows: int) -> None:
        """Hold a number of rows to the limit of one call.

        Raises:
            InvalidArgument: there are none, or too many.
        """
        limit = self.limits.max_rows_per_request
        if not 1 <= rows <= limit:
            raise InvalidArgument(field, f"{rows} rows; 1 to {limit} are allowed")

    async def infer(
        self, role: bundle_pb2.GraphRole, inputs: Arrays, outputs: tuple[str, ...], scheduling: Scheduling
    ) -> Result:
        """One graph as it is: its named outputs for the rows of its inputs. The model must have the graph.

        Raises:
            InvalidArgument: there are too many rows, or the decoder overflows on a latent.
        """
        for name, rows in inputs.items():
            self.check_rows(name, len(rows))
        with _blaming("inputs.latent") if role == _DECODER else nullcontext():
            return await self._run(role, inputs, outputs, scheduling)

    async def close(self) -> None:
        """Wait until the last lease has ended, let what runs end, refuse what waits, free the engines.

        No lease may begin any more.
        """
        await self._unused.wait()
        batchers = [*self._batchers.values(), *([self._reconstruction] if self._reconstruction else [])]
        await asyncio.gather(*(batcher.close() for batcher in batchers))
        await self._release()

    def revoke(self) -> None:
        """Let `close` wait no longer: the calls that hold leases have been given up."""
        self._unused.set()

    async def _draw_posterior(
        self, encoded: Encoded, seed: int, first_index: int, draws: int
    ) -> tuple[Float32, Float32]:
        """Noise and latents of so many draws from each posterior, [n * draws, latent_dim], image by image."""
        rows, dim = encoded.mean.shape

        def draw() -> tuple[Float32, Float32]:
            noise = self._noise.draw(seed, first_index, rows * draws, dim, Stream.POSTERIOR)
            return noise, draw_latents(encoded.mean, encoded.log_variance, noise)

        return await self._workers.run(4 * rows * draws * dim, draw)

    async def _run(
        self,
        role: bundle_pb2.GraphRole,
        inputs: Inputs,
        outputs: tuple[str, ...],
        scheduling: Scheduling,
        labels: Int64 | None = None,
    ) -> Result:
        inputs = self._noised(inputs) if role == _DECODER else inputs
        return await self._batchers[role].submit(_labelled(inputs, labels), outputs, scheduling)

    def _noised(self, inputs: Inputs) -> Inputs:
        """The inputs of rows whose latents are given, with the noise that the decoder takes beside them."""
        if self._noise_inputs is None:
            return inputs
        return {**inputs, **self._noise_inputs.of_given_latents(len(next(iter(inputs.values()))))}


def _tensors(manifest: bundle_pb2.Manifest) -> Mapping[str, TensorSpec]:
    image = manifest.image
    pixels, latent = (image.channels, image.height, image.width), shape_of(manifest.latent)
    likelihood = LIKELIHOODS.get(manifest.likelihood)
    shapes = {"image": pixels, "latent": latent, "mean": latent, "log_variance": latent}
    if likelihood is not None:
        shapes[likelihood.own_output] = pixels
    floats = {name: TensorSpec(name, np.dtype(np.float32), shape) for name, shape in shapes.items()}
    return {
        **floats,
        "image_uint8": TensorSpec("image_uint8", np.dtype(np.uint8), pixels),
        "label": TensorSpec("label", np.dtype(np.int64), ()),
    }


@contextmanager
def _blaming(field: str) -> Iterator[None]:
    """Blame the named field, from which latents are, for a row on which the decoder overflows.

    Raises:
        InvalidArgument: in the place of NotFinite.
    """
    try:
        yield
    except NotFinite as error:
        problem = f"row {error.row} is beyond what the decoder computes: output {error.output} is not finite there"
        raise InvalidArgument(field, problem) from None


def _labelled(inputs: Mapping[str, T], labels: Int64 | None) -> Mapping[str, T | Int64]:
    return inputs if labels is None else {**inputs, "label": labels}
