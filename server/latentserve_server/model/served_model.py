"""One READY model version: what its calls mean, in rows of latents and images. Knows no transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
from numpy.typing import NDArray

from latentserve.seed import draw_seed
from latentserve.v1 import bundle_pb2, models_pb2
from latentserve_server.batching.batcher import Batcher
from latentserve_server.batching.entry import Outcome, PixelForm, Terms
from latentserve_server.engine import Arrays
from latentserve_server.errors import CapabilityMissing, InvalidArgument, NotFinite
from latentserve_server.latent.labels import NO_LABELS, Int64, Labels
from latentserve_server.latent.likelihood import LIKELIHOODS, Likelihood
from latentserve_server.latent.noise import NoiseSource, Stream
from latentserve_server.latent.prior import AS_DRAWN, Drawing, PriorSource, check_indices
from latentserve_server.latent.scores import Scores, draw_latents, score_at_mean, score_draws
from latentserve_server.model.answers import Decoded, Encoded, Reconstructed, Scored, Spent
from latentserve_server.model.description import Footprint, Identity, Limits
from latentserve_server.workers import Workers

Float32 = NDArray[np.float32]

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


class ServedModel:
    """Answers calls for one model version, with one batcher for each of its graphs."""

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
        workers: Workers,
        release: Callable[[], Awaitable[None]],
    ) -> None:
        """`reconstruction` runs encoder and decoder in a row, and is absent where there is no encoder.

        `footprints` are those of the graphs, by the names of their roles. `release` frees what the batchers ran on; it
        is awaited once they are closed.
        """
        self.identity = identity
        self.manifest = manifest
        self.limits = limits
        self.capabilities = _CAPABILITIES[manifest.kind]
        self.footprints = footprints
        self._batchers = batchers
        self._reconstruction = reconstruction
        self.likelihood = LIKELIHOODS.get(manifest.likelihood)
        self._prior = prior
        self._noise = noise
        self._workers = workers
        self._release = release

    @property
    def memory_bytes(self) -> int:
        """Bytes of its graphs, as counted."""
        return sum(footprint.memory_bytes for footprint in self.footprints.values())

    async def sample(
        self,
        count: int,
        seed: int | None,
        first_index: int,
        form: PixelForm,
        terms: Terms,
        drawing: Drawing = AS_DRAWN,
        labels: Labels = NO_LABELS,
    ) -> Decoded:
        """Rows `first_index` to `first_index + count - 1` of the seed's images."""
        self.check_rows("count", count)
        check_indices("first_index", first_index, count)
        self._prior.demand(drawing.prior)
        seed = draw_seed() if seed is None else seed
        size = self._prior.work_bytes(count, drawing)
        latents = await self._workers.run(size, self._prior.draw, seed, first_index, count, drawing)
        drawn = labels.of_indices(first_index, count)
        outcome = await self._run(_DECODER, {"latent": latents}, (form.value,), terms, drawn)
        return Decoded(outcome.outputs[form.value], Spent.of(outcome), seed, drawn)

    async def decode(
        self, latents: Float32, form: PixelForm, terms: Terms, labels: Labels = NO_LABELS, *, field: str = "latents"
    ) -> Decoded:
        """The images of latents [n, latent_dim], which the caller chose in the named field of the request.

        Raises:
            InvalidArgument: there are too many, or the decoder overflows on one of them; names the first such row.
        """
        self.check_rows("latents", len(latents))
        of_rows = labels.of_rows(len(latents))
        with _blaming(field):
            outcome = await self._run(_DECODER, {"latent": latents}, (form.value,), terms, of_rows)
        return Decoded(outcome.outputs[form.value], Spent.of(outcome))

    async def encode(self, images: Float32, terms: Terms, labels: Labels = NO_LABELS) -> Encoded:
        """The posteriors of images [n, channels, height, width]."""
        self._demand(models_pb2.CAPABILITY_ENCODE, "encode")
        self.check_rows("images", len(images))
        of_rows, outputs = labels.of_rows(len(images)), ("mean", "log_variance")
        outcome = await self._run(_ENCODER, {"image": images}, outputs, terms, of_rows)
        return Encoded(outcome.outputs["mean"], outcome.outputs["log_variance"], Spent.of(outcome))

    async def encode_and_draw(
        self, images: Float32, seed: int | None, first_index: int, terms: Terms, labels: Labels = NO_LABELS
    ) -> Encoded:
        """The posteriors of images, and one latent from each: mean + exp(log_variance / 2) * noise."""
        check_indices("draw.first_index", first_index, len(images))
        encoded = await self.encode(images, terms, labels)
        seed = draw_seed() if seed is None else seed
        _, z = await self._draw_posterior(encoded, seed, first_index, 1)
        return Encoded(encoded.mean, encoded.log_variance, encoded.spent, z, seed)

    async def reconstruct(
        self, images: Float32, form: PixelForm, terms: Terms, labels: Labels = NO_LABELS
    ) -> Reconstructed:
        """The images decoded from the posterior means of images, and what each cost."""
        self._demand(models_pb2.CAPABILITY_RECONSTRUCT, "reconstruct")
        self.check_rows("images", len(images))
        inputs = _labelled({"image": images}, labels.of_rows(len(images)))
        outcome, scores = await self.reconstruct_and_score(inputs, (form.value,), terms)
        return Reconstructed(outcome.outputs[form.value], scores.reconstruction_error, scores.kl, Spent.of(outcome))

    async def reconstruct_and_score(
        self, inputs: Arrays, forms: tuple[str, ...], terms: Terms
    ) -> tuple[Outcome, Scores]:
        """The named forms of images, decoded from the posterior means of the encoder's inputs, and the scores there.

        One run of both graphs. The model must have an encoder.
        """
        assert self._reconstruction is not None
        assert self.likelihood is not None
        likelihood, images = self.likelihood, inputs["image"]
        wanted = tuple(dict.fromkeys((*forms, "mean", "log_variance", *likelihood.outputs)))
        outcome = await self._reconstruction.submit(inputs, wanted, terms.deadline, bulk=terms.bulk)
        mean, log_variance = outcome.outputs["mean"], outcome.outputs["log_variance"]
        quantiles = self.manifest.calibration.negative_elbo_quantiles
        scores = await self._workers.run(
            images.nbytes, score_at_mean, likelihood, images, mean, log_variance, outcome.outputs, quantiles
        )
        return outcome, scores

    async def score(
        self, images: Float32, draws: int, seed: int, first_index: int, terms: Terms, labels: Labels = NO_LABELS
    ) -> Scored:
        """How well the model explains images: at the posterior mean for 0 draws, else over so many draws an image."""
        likelihood = self._demand_likelihood(models_pb2.CAPABILITY_SCORE, "score")
        rows = len(images) * max(1, draws)
        self.check_rows("images * draws", rows)
        check_indices("first_index", first_index * max(1, draws), rows)
        if not draws:
            inputs = _labelled({"image": images}, labels.of_rows(rows))
            outcome, scores = await self.reconstruct_and_score(inputs, (), terms)
            return Scored(scores, Spent.of(outcome))
        encoded = await self.encode(images, terms, labels)
        noise, latents = await self._draw_posterior(encoded, seed, first_index * draws, draws)
        of_latents = labels.spread(len(images), draws).of_rows(rows)
        outcome = await self._run(_DECODER, {"latent": latents}, likelihood.outputs, terms, of_latents)
        decoded = likelihood, images, encoded.mean, encoded.log_variance, outcome.outputs
        scores = await self._workers.run(rows * images[0].nbytes, score_draws, *decoded, noise, latents)
        return Scored(scores, encoded.spent + Spent.of(outcome))

    def prior_rows(self, seeds: Sequence[int]) -> Float32:
        """Row 0 of each seed's latents, [n, latent_dim]."""
        self.check_rows("seeds", len(seeds))
        return np.concatenate([self._prior.draw(seed, 0, 1) for seed in seeds])

    def check_rows(self, field: str, rows: int) -> None:
        """Hold a number of rows to the limit of one call.

        Raises:
            InvalidArgument: there are none, or too many.
        """
        limit = self.limits.max_rows_per_request
        if not 1 <= rows <= limit:
            raise InvalidArgument(field, f"{rows} rows; 1 to {limit} are allowed")

    async def infer(
        self, role: bundle_pb2.GraphRole, inputs: Arrays, outputs: tuple[str, ...], terms: Terms
    ) -> Outcome:
        """One graph as it is: its named outputs for the rows of its inputs. The model must have the graph.

        Raises:
            InvalidArgument: there are too many rows, or the decoder overflows on a latent.
        """
        for name, rows in inputs.items():
            self.check_rows(name, len(rows))
        with _blaming("inputs.latent") if role == _DECODER else nullcontext():
            return await self._run(role, inputs, outputs, terms)

    async def close(self) -> None:
        """Let what runs end, refuse what waits, free the engines."""
        batchers = [*self._batchers.values(), *([self._reconstruction] if self._reconstruction else [])]
        await asyncio.gather(*(batcher.close() for batcher in batchers))
        await self._release()

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
        inputs: Arrays,
        outputs: tuple[str, ...],
        terms: Terms,
        labels: Int64 | None = None,
    ) -> Outcome:
        return await self._batchers[role].submit(_labelled(inputs, labels), outputs, terms.deadline, bulk=terms.bulk)

    def _demand_likelihood(self, capability: models_pb2.Capability, verb: str) -> Likelihood:
        self._demand(capability, verb)
        assert self.likelihood is not None  # a bundle of a VAE has one
        return self.likelihood

    def _demand(self, capability: models_pb2.Capability, verb: str) -> None:
        if capability not in self.capabilities:
            kind = bundle_pb2.ModelKind.Name(self.manifest.kind).removeprefix("MODEL_KIND_")
            raise CapabilityMissing(f"model {self.identity.name!r} is a {kind} and cannot {verb}")


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


def _labelled(inputs: Arrays, labels: Int64 | None) -> Arrays:
    return inputs if labels is None else {**inputs, "label": labels}
