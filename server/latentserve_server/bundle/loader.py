"""The loader: from a bundle on disk to a model that is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.batching.batch import Graph
from latentserve_server.batching.batcher import Batcher, BatchLimits, BatchObserver, BatchTraces
from latentserve_server.blocking_calls import on_thread
from latentserve_server.bundle.bundle import Bundle
from latentserve_server.bundle.golden_rows import buckets
from latentserve_server.bundle.manifest import role_name
from latentserve_server.bundle.opening import Opened, Opener
from latentserve_server.engine import Cancellation, Placement
from latentserve_server.engine.device import DeviceQueue, EngineThread
from latentserve_server.errors import StoreFailure
from latentserve_server.latent.noise import NoiseSource
from latentserve_server.latent.prior import PriorSource
from latentserve_server.model.drift import DriftObserver, DriftWatch
from latentserve_server.model.identity import Identity, Limits
from latentserve_server.model.kind import KINDS
from latentserve_server.model.scorer import ScoredGraph, Scorer
from latentserve_server.model.served_model import REPLY_OVERHEAD_BYTES, Footprint, ServedModel
from latentserve_server.workers import Workers

_FILE_OVERHEAD_BYTES = 1024
"""What an image file takes beyond its pixels, generously: up to 729 were seen, of a JPEG in colour of 2x2 pixels."""

_LABEL_BYTES = 3
"""What a label below 2^16 takes in a message, at most."""

_PSI_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Makes ready models of bundle directories."""

    placement: Placement
    slots: DeviceQueue
    """Slots on the device that `placement` names."""
    precision: pb.Precision
    """What graphs are to compute in, where the bundle has such graphs."""
    links_within: Path | None
    """Where the files of bundles may be links to."""
    limits: Limits
    chooses_batch_rows: bool = False
    """Whether each model's `max_batch_rows` is chosen by what runs take, and that of `limits` is the most it may be."""
    pad_batches: bool
    """Whether batches are filled up to a power of two rows, so that the device meets few shapes."""
    bind_batches: bool
    """Whether the buffers of padded batches stay on the device."""
    noise: NoiseSource
    workers: Workers
    observer: Callable[[str, int, str], BatchObserver]
    """The observer of a model's graph, from the model's name, its version and the graph's role."""
    drift_observer: Callable[[str, int], DriftObserver]
    """What is told how far a model's inputs have drifted, from its name and its version."""
    traces: Callable[[str, int, str], BatchTraces] | None = None
    """What follows calls through the batches of a graph, from the same; None where no call is traced."""
    _openings: set[tuple[str, int]] = field(default_factory=set)
    """The versions that are being opened, which may be on a thread for which nobody waits any more."""

    async def load(self, name: str, version: int, directory: Path) -> ServedModel:
        """A ready model. Everything slow happens on the model's own engine thread.

        Raises:
            BundleError: the bundle is damaged, or its graphs are not what the manifest says.
            DeviceError: the graphs do not run on the device. StoreFailure: an earlier try has not ended yet.
            OSError: there can be no further thread.
        """
        if (name, version) in self._openings:
            raise StoreFailure("an earlier try to load it has not ended yet")
        thread, cancellation = EngineThread(f"engine-{name}-{version}", self.slots), Cancellation()
        opening = thread.submit_alone(self._opener().open, directory, thread, cancellation)
        self._openings.add((name, version))
        opening.add_done_callback(lambda _: self._openings.discard((name, version)))
        try:
            opened = await asyncio.wrap_future(opening)
        except BaseException:
            cancellation.cancel()  # the process ends once its threads have: not after a run that nobody waits for
            thread.shutdown(wait=False)
            raise
        return self._serve(name, version, opened, thread)

    def _serve(self, name: str, version: int, opened: Opened, thread: EngineThread) -> ServedModel:
        """The model of what was opened on the thread."""
        bundle, engines, steady = opened.bundle, opened.engines, opened.steady
        limits = self._limits_of(bundle, opened.max_batch_rows)
        batches = BatchLimits(
            max_batch_rows=limits.max_batch_rows,
            max_queue_rows=limits.max_queue_rows,
            max_queue_bytes=limits.max_queue_bytes,
            buckets=buckets(limits.max_batch_rows) if self.pad_batches else (),
        )

        drift = DriftWatch(bundle.manifest.calibration, self.drift_observer(name, version))

        def start_batcher(graph: Graph, label: str, *, steady: bool) -> Batcher:
            here = thread if steady else None
            observer = self.observer(name, version, label)
            traces = self.traces(name, version, label) if self.traces is not None else None
            batcher = Batcher(graph, thread, self.workers, observer, batches, here, drift.ran, traces)
            batcher.start()
            return batcher

        async def release() -> None:
            try:
                await on_thread(f"end of {name} {version}", thread.shutdown)
            except OSError:  # there is no further thread to wait on
                thread.shutdown(wait=False)

        def start_pipeline(first: pb.GraphRole, label: str) -> Batcher | None:
            """What runs a graph and then the decoder; none where there is no such graph."""
            pipeline = opened.pipeline(first)
            if pipeline is None:
                return None
            scorer = Scorer.of(bundle.manifest) if first == pb.GRAPH_ROLE_ENCODER else None
            graph = pipeline if scorer is None else ScoredGraph(pipeline, scorer)
            return start_batcher(graph, label, steady=steady >= {first, pb.GRAPH_ROLE_DECODER})

        return ServedModel(
            Identity(
                name=name,
                version=version,
                digest=bundle.digest,
                device=self.placement.device,
                precision=bundle.precisions[pb.GRAPH_ROLE_DECODER],
                numerics=opened.numerics,
                fell_back=opened.fell_back,
            ),
            bundle.manifest,
            limits,
            {role: start_batcher(engine, role_name(role), steady=role in steady) for role, engine in engines.items()},
            reconstruction=start_pipeline(pb.GRAPH_ROLE_ENCODER, "reconstruct"),
            generation=start_pipeline(pb.GRAPH_ROLE_PRIOR, "sample"),
            footprints={
                role_name(role): Footprint(
                    weight_bytes=len(bundle.graphs[role]) + len(bundle.weights(role) or b""),
                    buffer_bytes=engine.buffer_bytes(limits.max_batch_rows),
                    cpu_operators=engine.cpu_operators,
                )
                for role, engine in engines.items()
            },
            prior=PriorSource(self.noise, bundle.manifest.latent.dim, bundle.mixture),
            noise=self.noise,
            noise_inputs=opened.noise_inputs,
            drift=drift,
            workers=self.workers,
            release=release,
        )

    def _opener(self) -> Opener:
        return Opener(
            placement=self.placement,
            precision=self.precision,
            links_within=self.links_within,
            max_batch_rows=self.limits.max_batch_rows,
            chooses_batch_rows=self.chooses_batch_rows,
            pad_batches=self.pad_batches,
            bind_batches=self.bind_batches,
            noise=self.noise,
        )

    def _limits_of(self, bundle: Bundle, max_batch_rows: int) -> Limits:
        """The limits of this model.

        A call's rows must fit a message as images, float32 or files, beside their latents, and as posteriors.
        """
        image = bundle.manifest.image
        latent_bytes = (8 if KINDS[bundle.manifest.kind].has_codes else 4) * bundle.manifest.latent.dim
        pixels = image.channels * image.height * image.width
        row_bytes = max(max(4 * pixels, pixels + _FILE_OVERHEAD_BYTES) + latent_bytes, 3 * latent_bytes)
        row_bytes += _LABEL_BYTES if bundle.manifest.labels.count else 0
        row_bytes += _PSI_BYTES if bundle.manifest.HasField("psi") else 0
        fitting = max(1, (self.limits.max_message_bytes - REPLY_OVERHEAD_BYTES) // row_bytes)
        rows = min(self.limits.max_rows_per_request, fitting)
        return replace(self.limits, max_rows_per_request=rows, max_batch_rows=max_batch_rows)
