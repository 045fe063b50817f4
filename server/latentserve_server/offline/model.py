"""A version opened offline: rows in, rows out, with the bits that a server gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.batching.batch import Graph, Inputs, Spoiled, as_given, compute, to_compute
from latentserve_server.bundle.golden_rows import buckets
from latentserve_server.bundle.manifest import precision_named
from latentserve_server.bundle.opening import Opener
from latentserve_server.configuration.config import parse_device
from latentserve_server.engine import Cancellation, Cpu, Cuda, Device, choose_placement
from latentserve_server.engine.device import DeviceQueue, EngineThread
from latentserve_server.errors import EngineFailure
from latentserve_server.latent.labels import Int64, Labels
from latentserve_server.latent.noise import Draw, NoiseSource
from latentserve_server.latent.prior import PriorSource
from latentserve_server.latent.scores import Scores
from latentserve_server.model.inputs import GraphInputs, labelled
from latentserve_server.model.kind import KINDS
from latentserve_server.model.requests import SampleRequest
from latentserve_server.model.scorer import ScoredGraph, Scorer
from latentserve_server.offline.version import FoundVersion

Float32 = NDArray[np.float32]

_ENCODER, _DECODER, _PRIOR = pb.GRAPH_ROLE_ENCODER, pb.GRAPH_ROLE_DECODER, pb.GRAPH_ROLE_PRIOR
_CODES = "codes"
_DRAWN_BYTES = 1 << 20
"""Noise that is drawn at once: the less at a time, the more a row costs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineOptions:
    """How a version is opened; the server's options of the same names."""

    device: str = "auto"
    threads: int = 1
    """Threads of one run on the CPU."""
    precision: str = "float32"
    numerics: Literal["fast", "portable"] = "fast"
    max_batch_rows: int = 64


@dataclass(frozen=True, slots=True)
class Rows:
    """What a run gave, by name, [n, ...] each; and the rows that it failed on, with why. Their values mean nothing."""

    outputs: Mapping[str, NDArray[Any]]
    failed: Mapping[int, str]


class OfflineModel:
    """A version that is open. All of its methods are for the thread that opened it."""

    def __init__(self, found: FoundVersion, options: OfflineOptions) -> None:
        """Open it: its files are verified, and its graphs tried on the golden rows.

        Raises:
            BundleError: the bundle is damaged. DeviceError: the device does not work. ConfigError: there is no such
                device or precision. StoreFailure: a file cannot be read now.
        """
        kind, index = parse_device(options.device)
        portable = options.numerics == "portable"
        cpu = Cpu(threads=options.threads, portable=portable)
        self._placement, _ = choose_placement(Device.CPU if portable else kind, cpu, Cuda(index=index))
        self.device = self._placement.device
        """Where the graphs run."""
        noise, self._pads = NoiseSource(), self.device is Device.CUDA
        opener = Opener(
            placement=self._placement,
            precision=precision_named(options.precision),
            links_within=None,
            max_batch_rows=options.max_batch_rows,
            chooses_batch_rows=False,
            pad_batches=self._pads,
            bind_batches=self._pads,
            noise=noise,
        )
        self._cancellation = Cancellation()
        self._opened = opener.open(found.directory, EngineThread("offline", DeviceQueue(None)), self._cancellation)
        bundle = self._opened.bundle
        self.numerics = self._opened.numerics
        """The fingerprint of the bits that the graphs compute; empty where a row's bits depend on its batch."""
        self.manifest, self._kind = bundle.manifest, KINDS[bundle.manifest.kind]
        prior = PriorSource(noise, bundle.manifest.latent.dim, bundle.mixture)
        self._inputs = GraphInputs(bundle.manifest, prior, noise, self._opened.noise_inputs)
        self._scorer = Scorer.of(bundle.manifest)

    def close(self) -> None:
        """End the threads that its runs share."""
        self._placement.close()

    def sample(self, request: SampleRequest, *, latents: bool = False) -> tuple[Rows, Int64 | None]:
        """The images of a seed's rows, "image" or "image_uint8", and their labels where the model is conditional.

        With `latents`, what they are decoded from, too: "latent" or "codes".
        """
        role, inputs, labels = self._inputs.of_sample(request)
        graph = self._graph(role)
        wanted = [request.form, *([_CODES] if self._kind.has_codes else [])]
        if latents and role == _PRIOR:
            wanted = [*dict.fromkeys([*wanted, self._kind.decodes])]
        rows = self._run(graph, inputs, wanted)
        drawn = inputs.get("latent")
        if latents and drawn is not None:
            rows = Rows({**rows.outputs, "latent": drawn.rows() if isinstance(drawn, Draw) else drawn}, rows.failed)
        return rows, labels

    def encode(self, images: Float32, labels: Labels) -> Rows:
        """What the encoder makes of images [n, channels, height, width]: "mean" and "log_variance", or "codes"."""
        inputs = labelled({"image": images}, labels.of_rows(len(images)))
        return self._run(self._opened.engines[_ENCODER], inputs, self._kind.encodes)

    def reconstruct(self, images: Float32, labels: Labels, forms: Sequence[str]) -> tuple[Rows, Scores]:
        """Images decoded from what the encoder gives, in the named forms, none or more; and the scores there."""
        inputs = self._inputs.completed(labelled({"image": images}, labels.of_rows(len(images))))
        graph = self._opened.pipeline(_ENCODER)
        assert graph is not None
        wanted = [*forms, *([_CODES] if self._kind.has_codes else [])]
        if self._scorer is None:
            return self._run(graph, inputs, wanted), Scores()
        wanted += [*self._scorer.reads, *self._scorer.names]
        rows = self._run(ScoredGraph(graph, self._scorer), inputs, list(dict.fromkeys(wanted)))
        return rows, Scores.at_mean(rows.outputs)

    def _graph(self, role: pb.GraphRole) -> Graph:
        """What draws samples: the decoder, or the prior graph and the decoder."""
        graph = self._opened.engines[_DECODER] if role == _DECODER else self._opened.pipeline(role)
        assert graph is not None
        return graph

    def _run(self, graph: Graph, inputs: Inputs, wanted: Sequence[str]) -> Rows:
        """The wanted outputs for all rows of the inputs, a batch at a time."""
        count, most = len(next(iter(inputs.values()))), self._opened.max_batch_rows
        collected: dict[str, NDArray[Any]] = {}
        failed: dict[int, str] = {}
        at_once = most * max(1, _DRAWN_BYTES * count // (most * sum(rows.nbytes for rows in inputs.values())))
        drawn: Mapping[str, NDArray[Any]] = {}
        for start in range(0, count, most):
            first = start % at_once
            if not first:
                drawn = {name: _drawn(rows[start : start + at_once]) for name, rows in inputs.items()}
            part = self._run_batch(graph, {name: rows[first : first + most] for name, rows in drawn.items()}, wanted)
            failed |= {start + row: why for row, why in part.failed.items()}
            for name, rows in part.outputs.items():
                if name not in collected:
                    collected[name] = np.zeros((count, *rows.shape[1:]), rows.dtype)
                collected[name][start : start + len(rows)] = rows
        return Rows(collected, failed)

    def _run_batch(self, graph: Graph, batch: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Rows:
        """One run. Where it fails, every row runs alone: one that fails a run must not take others with it."""
        rows = len(next(iter(batch.values())))
        try:
            return self._run_once(graph, batch, wanted, rows)
        except EngineFailure as error:
            if rows == 1:
                return Rows({}, {0: str(error)})
        outputs: dict[str, NDArray[Any]] = {}
        failed: dict[int, str] = {}
        for row in range(rows):
            alone = {name: values[row : row + 1] for name, values in batch.items()}
            part = self._run_batch(graph, alone, wanted)
            if part.failed:
                failed[row] = part.failed[0]
            for name, values in part.outputs.items():
                outputs.setdefault(name, np.zeros((rows, *values.shape[1:]), values.dtype))[row] = values[0]
        return Rows(outputs, failed)

    def _run_once(self, graph: Graph, batch: Mapping[str, NDArray[Any]], wanted: Sequence[str], rows: int) -> Rows:
        bucket = next(size for size in buckets(self._opened.max_batch_rows) if size >= rows) if self._pads else rows
        padded, names = {name: _padded(array, bucket) for name, array in batch.items()}, to_compute(wanted)
        computed = compute(graph, padded, names, bucket, self._cancellation)
        outputs = {name: computed[name][:rows] for name in names}
        failed = {row: f"output {name} is not finite" for row, name in Spoiled.among(outputs, names).every().items()}
        if _CODES in outputs:
            codes = outputs[_CODES]
            outside = ((codes < 0) | (codes >= self.manifest.latent.codes)).any(axis=1)
            failed |= {int(row): "a code is outside of the codebook" for row in np.flatnonzero(outside)}
        return Rows(as_given(outputs, wanted), failed)


def _drawn(rows: NDArray[Any] | Draw) -> NDArray[Any]:
    return rows.rows() if isinstance(rows, Draw) else rows


def _padded(array: NDArray[Any], rows: int) -> NDArray[Any]:
    """The rows, and zeros up to so many."""
    if len(array) == rows:
        return np.ascontiguousarray(array)
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded
