"""A loaded model version: what it is, and its calls in rows of latents and images."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2
from latentserve_server.batching.batch import Inputs
from latentserve_server.batching.batcher import Batcher
from latentserve_server.batching.scheduling import Result, Scheduling, Timing
from latentserve_server.engine import Arrays, TensorSpec
from latentserve_server.errors import EngineFailure, InvalidArgument, NotFinite
from latentserve_server.latent.codes import UnknownCode, check_codes
from latentserve_server.latent.labels import Int64
from latentserve_server.latent.likelihood import LIKELIHOODS
from latentserve_server.latent.noise import NoiseSource, Stream
from latentserve_server.latent.noise_inputs import NoiseInputs
from latentserve_server.latent.prior import Prior, PriorSource
from latentserve_server.latent.scores import Scores, draw_latents, score_draws
from latentserve_server.model.abilities import Abilities
from latentserve_server.model.answers import Decoded, Encoded, Reconstructed, Scored
from latentserve_server.model.drift import DriftWatch
from latentserve_server.model.identity import Identity, Limits
from latentserve_server.model.inputs import GraphInputs, labelled
from latentserve_server.model.kind import KINDS
from latentserve_server.model.requests import (
    DecodeRequest,
    EncodeRequest,
    ReconstructRequest,
    SampleRequest,
    ScoreRequest,
)
from latentserve_server.model.scorer import Scorer
from latentserve_server.workers import Workers

Float32 = NDArray[np.float32]
T = TypeVar("T")

REPLY_OVERHEAD_BYTES = 1 << 16
"""What a reply holds besides its rows, generously."""

_ENCODER, _DECODER = bundle_pb2.GRAPH_ROLE_ENCODER, bundle_pb2.GRAPH_ROLE_DECODER
_PRIOR = bundle_pb2.GRAPH_ROLE_PRIOR
_PSI, _CODES = "psi", "codes"
_SEED_BYTES = 1 << 14
"""A draw of one row costs about as much as work on so many bytes."""


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
        generation: Batcher | None,
        footprints: Mapping[str, Footprint],
        prior: PriorSource,
        noise: NoiseSource,
        noise_inputs: NoiseInputs | None,
        drift: DriftWatch,
        workers: Workers,
        release: Callable[[], Awaitable[None]],
    ) -> None:
        """`reconstruction` runs encoder and decoder in a row, `generation` prior graph and decoder; they are absent
        where there is no encoder, or no such prior.

        `footprints` are those of the graphs, by the names of their roles. `noise_inputs` are the decoder's, or None.
        `drift`, which sees what the encoder gives, is told of scores. `release` frees what the batchers ran on; it is
        awaited once they are closed.
        """
        self.identity = identity
        self.manifest = manifest
        self.image = manifest.image
        self.tensors = _tensors(manifest)
        """What its graphs take and give, by name, in callers' shapes; axis 0, the rows, is left out."""
        self.latent_shape = self.tensors["latent"].shape
        """The shape of a latent for callers; the graphs have rows of its values."""
        self.known_labels = manifest.labels.count
        """How many labels it knows; 0 where it is not conditional."""
        self.limits = limits
        self.kind = KINDS[manifest.kind]
        self.abilities = Abilities.of(identity.name, manifest)
        self.footprints = footprints
        self._batchers = batchers
        self._reconstruction = reconstruction
        self._generation = generation
        self.likelihood = LIKELIHOODS.get(manifest.likelihood)
        self._scorer = Scorer.of(manifest)
        self._inputs = GraphInputs(manifest, prior, noise, noise_inputs)
        self.psi = self._inputs.psi
        """The decoder's; None where it takes none."""
        self._prior = prior
        self._prior_noise = PriorSource(noise, manifest.latent.noise_dim, None)
        self._noise = noise
        self._drift = drift
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
        role, inputs, labels = self._inputs.of_sample(request)
        batcher, output = self._generation if role == _PRIOR else self._batchers[role], request.form
        assert batcher is not None
        wanted = (output, _CODES) if self.kind.has_codes else (output,)
        result = await batcher.submit(inputs, wanted, request.scheduling)
        if self.kind.has_codes:
            self._check_codes(result, "prior")
        return Decoded(result.outputs[output], result.timing, request.seed, labels)

    async def decode(self, latents: Float32 | Int64, request: DecodeRequest) -> Decoded:
        """The images of latents or codes [n, latent_dim].

        Raises:
            InvalidArgument: the decoder overflows on one of them; names the first such row.
        """
        labels, output = request.labels.of_rows(len(latents)), request.form
        with _blaming(request.field):
            result = await self._run(_DECODER, {self.kind.decodes: latents}, (output,), request.scheduling, labels)
        return Decoded(result.outputs[output], result.timing)

    async def encode(self, images: Float32, request: EncodeRequest) -> Encoded:
        """What the encoder makes of images [n, channels, height, width], and a latent from each posterior where one is
        to be drawn.
        """
        labels = request.labels.of_rows(len(images))
        result = await self._run(_ENCODER, {"image": images}, self.kind.encodes, request.scheduling, labels)
        found = result.outputs
        encoded = Encoded(result.timing, found.get("mean"), found.get("log_variance"), found.get("codes"))
        if request.draw is None:
            return encoded
        seed = request.draw.seed
        _, z = await self._draw_posterior(encoded, seed, request.draw.first_index, 1)
        return encoded._replace(z=z, seed=seed)

    async def reconstruct(self, images: Float32, request: ReconstructRequest) -> Reconstructed:
        """The images decoded from the posterior means of images, and what each cost."""
        inputs = labelled({"image": images}, request.labels.of_rows(len(images)))
        output = request.form
        result, scores = await self.reconstruct_and_score(inputs, (output,), request.scheduling)
        return Reconstructed(result.outputs[output], scores, result.timing)

    async def reconstruct_and_score(
        self, inputs: Arrays, forms: tuple[str, ...], scheduling: Scheduling, *, with_map: bool = False
    ) -> tuple[Result, Scores]:
        """The named forms of images, decoded from the latents that the encoder gives, the posterior means of a VAE, and
        the scores there.

        One run of both graphs. The model must have an encoder; without a likelihood, or without variances, it has fewer
        scores.
        """
        assert self._reconstruction is not None
        scorer, images = self._scorer, inputs["image"]
        in_run = scorer.in_run if scorer is not None and not with_map else ()
        read = scorer.reads if scorer is not None else ()
        codes = (_CODES,) if self.kind.has_codes else ()
        wanted = tuple(dict.fromkeys((*forms, *read, *codes, *in_run)))
        result = await self._reconstruction.submit(self._inputs.completed(inputs), wanted, scheduling)
        if codes:
            self._check_codes(result, "encoder")
        if scorer is None:
            return result, Scores()
        scores = (
            Scores.at_mean(result.outputs)
            if in_run
            else await self._workers.run(images.nbytes, scorer.score, images, result.outputs, with_map=with_map)
        )
        self._drift.scored(scores)
        return result, scores

    async def score(self, images: Float32, request: ScoreRequest) -> Scored:
        """How well the model explains images."""
        assert self.likelihood is not None
        draws, scheduling = request.draws, request.scheduling
        if not draws:
            inputs = labelled({"image": images}, request.labels.of_rows(len(images)))
            result, scores = await self.reconstruct_and_score(
                inputs, (), scheduling, with_map=request.map_form is not None
            )
            return Scored(scores, result.timing)
        encoded = await self.encode(images, EncodeRequest(labels=request.labels, scheduling=scheduling))
        noise, latents = await self._draw_posterior(encoded, request.seed, request.first_index * draws, draws)
        labels = request.labels.spread(len(images), draws).of_rows(len(latents))
        result = await self._run(_DECODER, {"latent": latents}, self.likelihood.outputs, scheduling, labels)
        decoded = self.likelihood, images, *encoded.posterior, result.outputs
        size, with_map = len(latents) * images[0].nbytes, request.map_form is not None
        scores = await self._workers.run(size, score_draws, *decoded, noise, latents, with_map=with_map)
        return Scored(scores, encoded.timing.then(result.timing))

    async def draw_latents(self, seeds: Sequence[int], request: EncodeRequest) -> tuple[Float32, Timing]:
        """Row 0 of each seed's latents, [n, latent_dim], of the model's default prior; and what a prior graph took.

        The labels are those of the request.
        """
        assert self.abilities.default_sampling is not None
        prior, size = self.abilities.default_sampling.prior, _SEED_BYTES * len(seeds)
        if prior is not Prior.GRAPH:
            return await self._workers.run(
                size, self._prior.draw_firsts, seeds, self.abilities.default_sampling
            ), Timing()
        noise = await self._workers.run(size, self._prior_noise.draw_firsts, seeds)
        labels = request.labels.of_rows(len(seeds))
        result = await self._run(_PRIOR, {"noise": noise}, ("latent",), request.scheduling, labels)
        return result.outputs["latent"], result.timing

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

        A decoder's noise, and its psi where that is left out, are as of every latent that is given.

        Raises:
            InvalidArgument: there are too many rows, a psi is out of range, or the decoder overflows on a latent.
        """
        for name, rows in inputs.items():
            self.check_rows(name, len(rows))
        if self.psi is not None and _PSI in inputs:
            self.psi.check(f"inputs.{_PSI}", inputs[_PSI])
        with _blaming(f"inputs.{self.kind.decodes}") if role == _DECODER else nullcontext():
            return await self._run(role, inputs, outputs, scheduling)

    async def close(self) -> None:
        """Wait until the last lease has ended, let what runs end, refuse what waits, free the engines.

        No lease may begin any more.
        """
        await self._unused.wait()
        batchers = [*self._batchers.values(), self._reconstruction, self._generation]
        await asyncio.gather(*(batcher.close() for batcher in batchers if batcher is not None))
        await self._release()

    def revoke(self) -> None:
        """Let `close` wait no longer: the calls that hold leases have been given up."""
        self._unused.set()

    async def _draw_posterior(
        self, encoded: Encoded, seed: int, first_index: int, draws: int
    ) -> tuple[Float32, Float32]:
        """Noise and latents of so many draws from each posterior, [n * draws, latent_dim], image by image."""
        mean, log_variance = encoded.posterior
        rows, dim = mean.shape

        def draw() -> tuple[Float32, Float32]:
            noise = self._noise.draw(seed, first_index, rows * draws, dim, Stream.POSTERIOR)
            return noise, draw_latents(mean, log_variance, noise)

        return await self._workers.run(4 * rows * draws * dim, draw)

    async def _run(
        self,
        role: bundle_pb2.GraphRole,
        inputs: Inputs,
        outputs: tuple[str, ...],
        scheduling: Scheduling,
        labels: Int64 | None = None,
    ) -> Result:
        inputs = self._inputs.completed(inputs) if role == _DECODER else inputs
        result = await self._batchers[role].submit(labelled(inputs, labels), outputs, scheduling)
        if _CODES in result.outputs:
            self._check_codes(result, "encoder")
        return result

    def _check_codes(self, result: Result, graph: str) -> None:
        """Hold the codes that a graph, which is called so, gave for the rows of a call to the codebook.

        Raises:
            EngineFailure: one is outside.
        """
        try:
            check_codes(result.outputs[_CODES], self.manifest.latent.codes)
        except UnknownCode as error:
            failure = f"model {self.identity.name!r}: output {_CODES!r} of its {graph}: {error}"
            raise EngineFailure(failure) from error


def _tensors(manifest: bundle_pb2.Manifest) -> Mapping[str, TensorSpec]:
    image, spec = manifest.image, manifest.latent
    pixels, latent = (image.channels, image.height, image.width), tuple(spec.shape) or (spec.dim,)
    likelihood = LIKELIHOODS.get(manifest.likelihood)
    shapes = {"image": pixels, "latent": latent, "mean": latent, "log_variance": latent}
    if likelihood is not None:
        shapes[likelihood.own_output] = pixels
    floats = {name: TensorSpec(name, np.dtype(np.float32), shape) for name, shape in shapes.items()}
    return {
        **floats,
        "image_uint8": TensorSpec("image_uint8", np.dtype(np.uint8), pixels),
        _CODES: TensorSpec(_CODES, np.dtype(np.int64), latent),
        "label": TensorSpec("label", np.dtype(np.int64), ()),
        _PSI: TensorSpec(_PSI, np.dtype(np.float32), ()),
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
