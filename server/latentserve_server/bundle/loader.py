"""The loader: from a bundle on disk to a model that is ready."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from latentserve.onnx.graph_rule import GraphRuleError, WeightsFile, check_graph, has_steady_cost
from latentserve.row_bits import TRIAL_ROWS
from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.batching.batch import Graph
from latentserve_server.batching.batcher import Batcher, BatchLimits, BatchObserver, BatchTraces
from latentserve_server.blocking_calls import on_thread
from latentserve_server.bundle import batch_rows
from latentserve_server.bundle.bundle import Bundle, TensorShapes, read_bundle
from latentserve_server.bundle.golden_rows import GoldenRows, GraphTrial, Invariance, buckets, fingerprint
from latentserve_server.bundle.manifest import precision_name, role_name
from latentserve_server.bundle.weights import Weights
from latentserve_server.engine import Cancellation, Cuda, Engine, Placement, TensorSpec
from latentserve_server.engine.device import DeviceQueue, EngineThread
from latentserve_server.engine.engine import Pipeline, trim_heap
from latentserve_server.errors import BundleError, EngineFailure, PrecisionShortfall, StoreFailure
from latentserve_server.latent.noise import NoiseSource
from latentserve_server.latent.noise_inputs import NoiseInputs
from latentserve_server.latent.prior import PriorSource
from latentserve_server.model.drift import DriftObserver, DriftWatch
from latentserve_server.model.identity import Identity, Limits
from latentserve_server.model.kind import KINDS
from latentserve_server.model.scorer import ScoredGraph, Scorer
from latentserve_server.model.served_model import REPLY_OVERHEAD_BYTES, Footprint, ServedModel
from latentserve_server.workers import Workers

_logger = logging.getLogger(__name__)

_MAX_TENSOR_BYTES = 1 << 30
"""What one tensor of the largest batch may take."""

_FILE_OVERHEAD_BYTES = 1024
"""What an image file takes beyond its pixels, generously: up to 729 were seen, of a JPEG in colour of 2x2 pixels."""

_FEWER_ROWS = "%s: max_batch_rows: %d, since a row takes long, or much memory"
_FAST_BITS = range(1, 8)
_MAY_BE_SLOW = (
    "%s: the %s in %s does not say that its weights take 7 bits. Where they take 8 it is slower than it need be, since "
    "sums of its products must be kept from saturating, and wrong in runtimes that do not; export the model again"
)

_LABEL_BYTES = 3
"""What a label below 2^16 takes in a message, at most."""

_PSI_BYTES = 4


@dataclass(frozen=True)
class _Opened:
    """A bundle and its graphs, which reproduce their golden rows."""

    bundle: Bundle
    engines: Mapping[pb.GraphRole, Engine]
    numerics: str
    """The fingerprint of what they compute; empty where a row's bits depend on its batch."""
    fell_back: frozenset[str]
    """The names of the graphs that compute in float32 because those in lower precision fell short of their manifest."""
    steady: frozenset[pb.GraphRole]
    """The graphs whose runs take as long whatever the values."""
    max_batch_rows: int
    """Rows of a run, at most."""
    noise_inputs: NoiseInputs | None
    """The decoder's, where it has any."""


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
        opening = thread.submit_alone(self._open, directory, thread, cancellation)
        self._openings.add((name, version))
        opening.add_done_callback(lambda _: self._openings.discard((name, version)))
        try:
            opened = await asyncio.wrap_future(opening)
        except BaseException:
            cancellation.cancel()  # the process ends once its threads have: not after a run that nobody waits for
            thread.shutdown(wait=False)
            raise
        return self._serve(name, version, opened, thread)

    def _serve(self, name: str, version: int, opened: _Opened, thread: EngineThread) -> ServedModel:
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
            if first not in engines:
                return None
            pair, link = {first, pb.GRAPH_ROLE_DECODER}, _link_of(bundle, first)
            codes, second = bundle.manifest.latent.codes, engines[pb.GRAPH_ROLE_DECODER]
            resident = first == pb.GRAPH_ROLE_ENCODER and not codes
            pipeline = Pipeline(engines[first], second, link, resident=resident, codes=codes)
            scorer = Scorer.of(bundle.manifest) if first == pb.GRAPH_ROLE_ENCODER else None
            graph = pipeline if scorer is None else ScoredGraph(pipeline, scorer)
            return start_batcher(graph, label, steady=steady >= pair)

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

    def _open(self, directory: Path, thread: EngineThread, cancellation: Cancellation) -> _Opened:
        bundle = read_bundle(directory, self.precision, self.links_within)
        self._tell_precisions(directory, bundle)
        most = self._most_rows(bundle)
        tried = min(TRIAL_ROWS, most) if self.chooses_batch_rows else most
        rows = min(tried, _fitting_rows(bundle))
        trials: dict[pb.GraphRole, GraphTrial] = {}
        found: dict[pb.GraphRole, Invariance] = {}
        fell_back = set[str]()
        for role in sorted(bundle.graphs):  # the encoder first: the decoder reads what it writes
            with _naming(role):
                trials[role] = self._open_graph(bundle, role, thread, cancellation)
                rows = trials[role].affordable_rows(rows)
        for role in trials:
            with _naming(role):
                try:
                    found[role] = _tried(bundle, role, trials, rows)
                except PrecisionShortfall as shortfall:
                    label, lower = role_name(role), precision_name(bundle.precisions[role])
                    _logger.warning("%s: %s in %s: %s; float32 runs", directory, label, lower, shortfall)
                    bundle = bundle.in_float32(role)
                    fell_back.add(label)
                    trials[role] = self._open_graph(bundle, role, thread, cancellation)
                    rows = trials[role].affordable_rows(rows)
                    found[role] = _tried(bundle, role, trials, rows)
        if rows < tried:
            _logger.info(_FEWER_ROWS, directory, rows, extra={"max_batch_rows": rows})
        elif self.chooses_batch_rows:
            rows = _choose_rows(directory, trials, found, rows, most)
        for trial in trials.values():
            trial.end()
        trim_heap()
        return _Opened(
            bundle,
            {role: trial.engine for role, trial in trials.items()},
            _numerics(directory, {role_name(role): invariance for role, invariance in found.items()}),
            frozenset(fell_back),
            frozenset(role for role in trials if has_steady_cost(bundle.graphs[role])),
            rows,
            NoiseInputs(self.noise, noises) if (noises := bundle.noises) else None,
        )

    def _most_rows(self, bundle: Bundle) -> int:
        """The most rows that a batch of the model may have."""
        most = self.limits.max_batch_rows
        return batch_rows.most_rows(_row_bytes(bundle), most) if self.chooses_batch_rows else most

    def _tell_precisions(self, directory: Path, bundle: Bundle) -> None:
        wanted = precision_name(self.precision)
        for role, precision in bundle.precisions.items():
            if precision != self.precision:
                _logger.info("%s: there is no %s in %s; float32 runs", directory, role_name(role), wanted)
            elif precision == pb.PRECISION_INT8 and bundle.entry(role).conversion.weight_bits not in _FAST_BITS:
                _logger.warning(_MAY_BE_SLOW, directory, role_name(role), wanted)

    def _open_graph(
        self,
        bundle: Bundle,
        role: pb.GraphRole,
        thread: EngineThread,
        cancellation: Cancellation,
    ) -> GraphTrial:
        """Open a graph; its trial is still to come."""
        weights = bundle.weights(role)
        _check_graph(bundle.graphs[role], weights)
        capturing = isinstance(self.placement, Cuda) and self.placement.graphs
        with thread.slot() if capturing else nullcontext():  # no allocation may fall into another model's capture
            beside = {weights.name: weights.memory} if weights else {}
            engine = Engine(bundle.graphs[role], self.placement, bundle.entry(role).batch_rows, beside)
        if engine.cpu_operators:
            left = ", ".join(f"{operator} ({nodes})" for operator, nodes in engine.cpu_operators.items())
            _logger.warning("%s: %s leaves operators to the CPU: %s", role_name(role), self.placement.device, left)
        _check_specs(engine.inputs, bundle.inputs(role), exact=True)
        _check_specs(engine.outputs, bundle.outputs(role), exact=False)
        return GraphTrial(
            engine=engine,
            golden=GoldenRows.of(bundle, role, self.placement),
            thread=thread,
            cancellation=cancellation,
            padded=self.pad_batches,
            bound=self.bind_batches and not any(graph.batch_rows for graph in bundle.manifest.graphs),
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


def _tried(bundle: Bundle, role: pb.GraphRole, trials: Mapping[pb.GraphRole, GraphTrial], rows: int) -> Invariance:
    """What the trial of a graph finds; the decoder shares what the encoder, which has been tried, writes."""
    trial, encoder = trials[role], trials.get(pb.GRAPH_ROLE_ENCODER)
    if encoder is not None and role == pb.GRAPH_ROLE_DECODER:
        trial.before = encoder.engine, *_link_of(bundle, pb.GRAPH_ROLE_ENCODER)
    return trial.run(rows)


def _choose_rows(
    directory: Path,
    trials: Mapping[pb.GraphRole, GraphTrial],
    found: Mapping[pb.GraphRole, Invariance],
    tried_rows: int,
    most: int,
) -> int:
    """The rows of a batch, at most `most`, by what runs take; what is beyond those tried is tried, too."""

    def run(rows: int) -> Sequence[float]:
        try:
            return [trial.seconds(rows) for trial in trials.values()]
        except EngineFailure:
            if rows <= tried_rows:
                raise
            return ()  # the device has no room for so many

    choice = batch_rows.choose(batch_rows.measure(run, len(trials), most))
    _logger.info("%s: max_batch_rows: %s", directory, choice, extra={"max_batch_rows": choice.rows})
    for role, trial in trials.items():
        with _naming(role):
            trial.extend(tried_rows, choice.rows, found[role])
    return choice.rows


@contextmanager
def _naming(role: pb.GraphRole) -> Iterator[None]:
    """Name the graph in what goes wrong with it.

    Raises:
        BundleError: in the place of EngineFailure, too.
    """
    try:
        yield
    except (BundleError, EngineFailure) as error:
        raise BundleError(f"{role_name(role)}: {error}") from error


def _link_of(bundle: Bundle, first: pb.GraphRole) -> tuple[str, str]:
    """The output of a graph, and the decoder's input that takes it."""
    return next(iter(bundle.outputs(first))), KINDS[bundle.manifest.kind].decodes


def _row_bytes(bundle: Bundle) -> int:
    """Bytes of a row of every input and output of all graphs."""
    tensors = [tensor for role in bundle.graphs for tensor in (bundle.inputs(role), bundle.outputs(role))]
    return sum(math.prod(shape) * dtype.itemsize for each in tensors for dtype, shape in each.values())


def _fitting_rows(bundle: Bundle) -> int:
    """The rows of which no input or output takes more memory than one tensor may.

    Raises:
        BundleError: those of a single run, which a graph demands, take more.
    """
    fitting = []
    for role in bundle.graphs:
        run = bundle.entry(role).batch_rows or 1
        for name, (dtype, shape) in {**bundle.inputs(role), **bundle.outputs(role)}.items():
            size = math.prod(shape) * dtype.itemsize
            fitting.append(_MAX_TENSOR_BYTES // size)
            if run > fitting[-1]:
                taken = f"takes {run * size} bytes where {_MAX_TENSOR_BYTES} are allowed"
                raise BundleError(f"{role_name(role)}: a run of {run} rows of {name!r} {taken}")
    return min(fitting)


def _numerics(directory: Path, trials: Mapping[str, Invariance]) -> str:
    """The fingerprint of the graphs that were tried, by their roles; none, and a warning, where a row's bits varied."""
    dependent = {role: trial.exception for role, trial in trials.items() if trial.exception}
    for role, exception in dependent.items():
        _logger.warning("%s: %s: the last bits of a row depend on its batch: %s", directory, role, exception)
    return "" if dependent else fingerprint({role: trial.together for role, trial in trials.items()})


def _check_graph(model: bytes, weights: Weights | None) -> None:
    try:
        check_graph(model, weights=WeightsFile(weights.name, len(weights)) if weights else None)
    except GraphRuleError as error:
        raise BundleError(str(error)) from error


def _check_specs(specs: tuple[TensorSpec, ...], demanded: TensorShapes, *, exact: bool) -> None:
    found = {spec.name: (spec.dtype, spec.shape) for spec in specs}
    for name, (dtype, shape) in demanded.items():
        if found.get(name) != (dtype, shape):
            raise BundleError(f"the graph's tensor {name!r} is not {dtype.name} [batch, *{list(shape)}]")
    if exact and len(found) != len(demanded):
        raise BundleError(f"the graph's inputs are {sorted(found)} where {sorted(demanded)} are fed")
