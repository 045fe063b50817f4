"""The opening of a bundle: its graphs on a device, held to its manifest and tried on its golden rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from latentserve.onnx.graph_rule import GraphRuleError, WeightsFile, check_graph, has_steady_cost
from latentserve.row_bits import TRIAL_ROWS
from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.bundle import batch_rows
from latentserve_server.bundle.bundle import Bundle, TensorShapes, read_bundle
from latentserve_server.bundle.golden_rows import GoldenRows, GraphTrial, Invariance, fingerprint
from latentserve_server.bundle.manifest import precision_name, role_name
from latentserve_server.bundle.weights import Weights
from latentserve_server.engine import Cancellation, Cuda, Engine, Placement, TensorSpec
from latentserve_server.engine.device import EngineThread
from latentserve_server.engine.engine import Pipeline, trim_heap
from latentserve_server.errors import BundleError, EngineFailure, PrecisionShortfall
from latentserve_server.latent.noise import NoiseSource
from latentserve_server.latent.noise_inputs import NoiseInputs
from latentserve_server.model.kind import KINDS

_logger = logging.getLogger(__name__)

_MAX_TENSOR_BYTES = 1 << 30
"""What one tensor of the largest batch may take."""

_FEWER_ROWS = "%s: max_batch_rows: %d, since a row takes long, or much memory"
_FAST_BITS = range(1, 8)
_MAY_BE_SLOW = (
    "%s: the %s in %s does not say that its weights take 7 bits. Where they take 8 it is slower than it need be, since "
    "sums of its products must be kept from saturating, and wrong in runtimes that do not; export the model again"
)


@dataclass(frozen=True)
class Opened:
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

    def pipeline(self, first: pb.GraphRole) -> Pipeline | None:
        """What runs a graph and then the decoder; None where there is no such graph."""
        if first not in self.engines:
            return None
        codes, second = self.bundle.manifest.latent.codes, self.engines[pb.GRAPH_ROLE_DECODER]
        resident = first == pb.GRAPH_ROLE_ENCODER and not codes
        return Pipeline(self.engines[first], second, _link_of(self.bundle, first), resident=resident, codes=codes)


@dataclass(frozen=True, kw_only=True)
class Opener:
    """Opens bundles on one device, for a server or without one."""

    placement: Placement
    precision: pb.Precision
    """What graphs are to compute in, where the bundle has such graphs."""
    links_within: Path | None
    """Where the files of bundles may be links to."""
    max_batch_rows: int
    """Rows of a run, at most."""
    chooses_batch_rows: bool
    """Whether a model's rows of a run are chosen by what runs take."""
    pad_batches: bool
    """Whether batches are filled up to a power of two rows, so that the device meets few shapes."""
    bind_batches: bool
    """Whether the buffers of padded batches stay on the device."""
    noise: NoiseSource

    def open(self, directory: Path, thread: EngineThread, cancellation: Cancellation) -> Opened:
        """Open the bundle in `directory`. Runs where it is called, which on CUDA must be where the graphs run later.

        `thread` gives the slots of the device that its runs take. Cancelled, it ends at the next operator.

        Raises:
            BundleError: the bundle is damaged, or its graphs are not what the manifest says.
            DeviceError: the graphs do not run on the device. StoreFailure: a file cannot be read now.
        """
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
        return Opened(
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
        most = self.max_batch_rows
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
