"""The server's Prometheus metrics, and totals read back from them.

Base units, one prefix but for those of the process, and labels from closed sets alone: methods of the contract, models
of the repository, callers of the file of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import Counter, Gauge

from latentserve_server.batching.batch import Waited
from latentserve_server.certificates import Certificates
from latentserve_server.model.identity import Identity
from latentserve_server.model.served_model import Footprint
from latentserve_server.repository.version import State
from latentserve_server.telemetry.log_writer import LogWriter
from latentserve_server.telemetry.metrics_listener import MetricsListener
from latentserve_server.telemetry.process_metrics import process_registry, serve_registry
from latentserve_server.telemetry.tallies import Buckets, Histogram, Tallies, Tally


def _geometric(first: float, factor: float, count: int) -> Sequence[float]:
    return tuple(first * factor**i for i in range(count))


_SECONDS = _geometric(1e-4, 2, 18)  # 0.1 ms to 13 s
_ROWS = _geometric(1, 2, 13)  # 1 to 4096
_VERSIONED = ("model", "version")
_FAILURES = ("UNKNOWN", "INTERNAL", "DATA_LOSS", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphTotals:
    """What one graph of one model version has done since the version was opened."""

    calls: int = 0
    """Calls that were answered."""
    queue_seconds: float = 0.0
    """What these calls waited."""
    runs: int = 0
    compute_seconds: float = 0.0
    """What the runs took."""
    rows: int = 0
    """Rows that ran, without those that filled batches up."""


class Metrics:
    """Every metric of one server, in a registry of its own."""

    def __init__(self, log: LogWriter | None = None) -> None:
        """`log` is where this process's log lines go."""
        self.registry = process_registry(log)
        calls, graphs = ("method", "model"), ("model", "version", "graph")
        self._requests = Tallies("requests", "Calls answered, by status code.", (*calls, "code"), self.registry)
        self._duration = self._histogram("request_duration_seconds", "Time from request to reply.", calls, _SECONDS)
        text = "Calls answered, by the caller that a token names; jwt: all with JSON Web Tokens."
        self._of_callers = Tallies("caller_calls", text, ("caller", "code"), self.registry)
        text = "Calls that were refused for who makes them, and requests of streams."
        self._refused_callers = Tallies("refused_callers", text, ("reason",), self.registry)
        text = "Files of tokens and keys that make no sense now, so that what they said before counts."
        self._stale = self._gauge("access_files_stale", text, ())
        self._calls: dict[tuple[str, str, str], tuple[Tally, Buckets]] = {}
        self._calls_in_flight: dict[str, int] = {}
        self._in_flight = self._gauge("requests_in_flight", "Calls being answered.", ("method",))
        self._bytes = self._gauge("request_bytes_in_flight", "Bytes of requests being answered.", ())
        self._queue_rows = self._gauge("queue_rows", "Rows that wait for a graph.", graphs)
        self._queue = self._histogram("queue_duration_seconds", "Time a call waited for a graph.", graphs, _SECONDS)
        self._compute = self._histogram("compute_duration_seconds", "Time of one run of a graph.", graphs, _SECONDS)
        self._batch_rows = self._histogram("batch_rows", "Rows in one run of a graph.", graphs, _ROWS)
        self._padding = self._counter("padding_rows", "Rows of batches that were filled up with zeros.", graphs)
        text = "Calls that were refused before their request was read, for want of memory."
        self._memory_refused = Tallies("memory_refused_calls", text, (), self.registry).labels()
        self._refused = self._counter("refused_calls", "Calls that a queue did not admit.", (*graphs, "reason"))
        self._dropped = self._counter("dropped_calls", "Calls that left before they ran.", (*graphs, "reason"))
        self._memory = self._gauge("graph_memory_bytes", "Weights, and buffers of the largest batch.", graphs)
        self._cpu_nodes = self._gauge("graph_cpu_nodes", "Nodes that the device leaves to the CPU.", graphs)
        text = "1 where float32 runs because a lower precision fell short of its manifest."
        self._fell_back = self._gauge("graph_fell_back", text, graphs)
        self._of_graphs = (
            self._memory,
            self._cpu_nodes,
            self._fell_back,
            self._queue_rows,
            self._queue,
            self._compute,
            self._batch_rows,
            self._padding,
            self._refused,
            self._dropped,
        )
        self._model = self._gauge(
            "model_info", "Models that are ready.", ("model", "version", "digest", "device", "numerics")
        )
        self._invariant = self._gauge(
            "model_batch_invariant", "1 if a row has the same bits in any batch.", ("model", "version")
        )
        self._state = self._gauge("model_state", "1 for the state of a version.", ("model", "version", "state"))
        self._loads = self._counter("model_loads", "Attempts to load a version.", ("model", "result"))
        text = "1 for a version that answers calls and is not in the repository any more."
        self._missing = self._gauge("model_missing", text, ("model", "version"))
        text = "1 for a version that is to be served and does not load."
        self._broken = self._gauge("model_broken", text, ("model", "version"))
        text = "1 for an alias that cannot move to the version that it is to name."
        self._stuck = self._gauge("alias_stuck", text, ("model", "alias"))
        self._unreadable = self._gauge("repository_unreadable", "1 if the last scan of the repository failed.", ())
        self._build = self._gauge("build_info", "What this server is made of.", ("version", "onnxruntime", "device"))
        text = "Divergence of the last window's posterior means from the calibration's, in nats a latent."
        self._latent_drift = self._gauge("latent_drift_nats", text, _VERSIONED)
        text = "Population stability index of the last window's anomaly percentiles."
        self._anomaly_drift = self._gauge("anomaly_percentile_psi", text, _VERSIONED)
        text = "Windows of rows that were compared with the calibration."
        self._drift_windows = self._counter("drift_windows", text, (*_VERSIONED, "of"))
        self._exporter: MetricsListener | None = None

    def serve(self, host: str, port: int, certificates: Certificates | None = None) -> int:
        """Answer scrapes at host:port/metrics from threads, by https with `certificates`; returns the port.

        Raises:
            ConfigError: the address cannot be bound.
        """
        self._exporter = serve_registry(self.registry, host, port, certificates)
        return self._exporter.port

    def close(self) -> None:
        """Stop answering scrapes."""
        if self._exporter is not None:
            self._exporter.close()

    def call_started(self, method: str) -> None:
        """A call of the method came in."""
        if method not in self._calls_in_flight:
            self._calls_in_flight[method] = 0
            self._in_flight.labels(method).set_function(partial(self._calls_in_flight.__getitem__, method))
        self._calls_in_flight[method] += 1

    def call_ended(self, method: str, model: str, code: str, seconds: float, trace_id: str = "") -> None:
        """The call, which may have a trace, was answered with the status code after so many seconds."""
        self._calls_in_flight[method] -= 1
        key = method, model, code
        if key not in self._calls:
            for failure in _FAILURES:  # of a series that begins above 0, no rate shows how it came there
                self._requests.labels(method, model, failure)
            self._calls[key] = self._requests.labels(method, model, code), self._duration.labels(method, model)
        requests, duration = self._calls[key]
        requests.count += 1
        duration.observe(seconds, trace_id)

    def caller_answered(self, caller: str, code: str) -> None:
        """A call of a known caller was answered."""
        self._of_callers.labels(caller, code).count += 1

    def memory_lacked(self) -> None:
        """A call was refused for want of memory."""
        self._memory_refused.count += 1

    def caller_refused(self, reason: str) -> None:
        """A call, or a request of a stream, was refused for who makes it."""
        self._refused_callers.labels(reason).count += 1

    def watch_access_files(self, stale: Callable[[], int]) -> None:
        """`stale` tells how many files of tokens and keys make no sense now."""
        self._stale.set_function(stale)

    def watch_bytes(self, under_way: Callable[[], int]) -> None:
        """`under_way` tells how many bytes of requests are being answered."""
        self._bytes.set_function(under_way)

    def set_build(self, version: str, onnxruntime: str, device: str) -> None:
        """Say what this server is made of."""
        self._build.labels(version, onnxruntime, device).set(1)

    def state_changed(self, model: str, version: int, state: State | None) -> None:
        """The version is in the state; None where it is gone."""
        for one in State:
            if state is None:
                self._state.remove(model, str(version), one.value)
            else:
                self._state.labels(model, str(version), one.value).set(one is state)

    def load_ended(self, model: str, *, succeeded: bool) -> None:
        """An attempt to load a version came to an end."""
        self._loads.labels(model, "success" if succeeded else "failure").inc()

    def scan_ended(self, *, succeeded: bool) -> None:
        """The repository could be read, or could not."""
        self._unreadable.set(not succeeded)

    def version_missing(self, model: str, version: int, *, is_missing: bool) -> None:
        """The version answers calls, and is not in the repository; or that is over."""
        if is_missing:
            self._missing.labels(model, str(version)).set(1)
        else:
            self._missing.remove(model, str(version))

    def version_broken(self, model: str, version: int, *, is_broken: bool) -> None:
        """The version is wanted and does not load; or that is over."""
        if is_broken:
            self._broken.labels(model, str(version)).set(1)
        else:
            self._broken.remove(model, str(version))

    def alias_stuck(self, model: str, alias: str, *, is_stuck: bool) -> None:
        """The alias has become stuck, or is no longer stuck."""
        if is_stuck:
            self._stuck.labels(model, alias).set(1)
        else:
            self._stuck.remove(model, alias)

    def model_opened(self, identity: Identity, footprints: Mapping[str, Footprint]) -> None:
        """A model answers calls now; `footprints` are those of its graphs, by the names of their roles."""
        self._forget(identity.name, identity.version, (self._latent_drift, self._anomaly_drift))  # of one before it
        for graph, footprint in footprints.items():
            labels = identity.name, str(identity.version), graph
            self._memory.labels(*labels).set(footprint.memory_bytes)
            self._cpu_nodes.labels(*labels).set(sum(footprint.cpu_operators.values()))
            self._fell_back.labels(*labels).set(graph in identity.fell_back)
        self._model.labels(*_info(identity)).set(1)
        self._invariant.labels(identity.name, str(identity.version)).set(bool(identity.numerics))

    def model_retired(self, identity: Identity) -> None:
        """A model takes no more calls."""
        self._model.remove(*_info(identity))
        self._invariant.remove(identity.name, str(identity.version))

    def version_closed(self, model: str, version: int) -> None:
        """Nothing of the version is open any more."""
        drift = self._latent_drift, self._anomaly_drift, self._drift_windows
        self._forget(model, version, (*self._of_graphs, *drift))

    def observer(self, model: str, version: int, graph: str) -> GraphMetrics:
        """The metrics of one graph."""
        labels = (model, str(version), graph)
        return GraphMetrics(
            self._queue_rows.labels(*labels),
            self._queue.labels(*labels),
            self._compute.labels(*labels),
            self._batch_rows.labels(*labels),
            self._padding.labels(*labels),
            {reason: self._refused.labels(*labels, reason) for reason in ("full", "deadline")},
            {reason: self._dropped.labels(*labels, reason) for reason in ("cancelled", "deadline")},
        )

    def drift_observer(self, model: str, version: int) -> DriftMetrics:
        """The metrics of one version's drift."""
        return DriftMetrics(model, str(version), self._latent_drift, self._anomaly_drift, self._drift_windows)

    def graph_totals(self) -> Mapping[tuple[str, str, str], GraphTotals]:
        """The totals of every graph that is open, by model, version and graph."""
        waits, runs, rows = (metric.children() for metric in (self._queue, self._compute, self._batch_rows))
        return {
            (graph[0], graph[1], graph[2]): GraphTotals(
                calls=waits[graph].count,
                queue_seconds=waits[graph].total,
                runs=runs[graph].count,
                compute_seconds=runs[graph].total,
                rows=int(rows[graph].total),
            )
            for graph in waits.keys() & runs.keys() & rows.keys()
        }

    def _forget(self, model: str, version: int, metrics: Sequence[Counter | Gauge | Histogram]) -> None:
        for metric in metrics:
            metric.remove_by_labels({"model": model, "version": str(version)})

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(f"latentserve_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str]) -> Gauge:
        return Gauge(f"latentserve_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(f"latentserve_{name}", text, labels, buckets, self.registry)


def _info(identity: Identity) -> tuple[str, ...]:
    return identity.name, str(identity.version), identity.digest, identity.device.value, identity.numerics


class GraphMetrics:
    """The batcher's observer: the metrics of one graph of one model version."""

    def __init__(
        self,
        queue_rows: Gauge,
        queue: Buckets,
        compute: Buckets,
        batch_rows: Buckets,
        padding: Counter,
        refused: Mapping[str, Counter],
        dropped: Mapping[str, Counter],
    ) -> None:
        self._queue_rows = queue_rows
        self._queue = queue
        self._compute = compute
        self._batch_rows = batch_rows
        self._padding = padding
        self._refused = refused
        self._dropped = dropped

    def queue_opened(self, rows: Callable[[], int]) -> None:
        """`rows` tells how many rows wait."""
        self._queue_rows.set_function(rows)

    def batch_ran(self, rows: int, padding: int, seconds: float) -> None:
        """A batch of `rows` rows, and `padding` rows for nothing, took `seconds` to run."""
        self._batch_rows.observe(rows)
        self._padding.inc(padding)
        self._compute.observe(seconds)

    def calls_waited(self, waits: Sequence[Waited]) -> None:
        """Calls were answered after waiting for the engine."""
        for seconds, trace_id in waits:
            self._queue.observe(seconds, trace_id)

    def call_refused(self, reason: str) -> None:
        """A call was not admitted."""
        self._refused[reason].inc()

    def call_dropped(self, reason: str) -> None:
        """A call was dropped before all of its rows ran."""
        self._dropped[reason].inc()


class DriftMetrics:
    """What is told of the drift of one model version, of which there is nothing until a window has ended."""

    def __init__(self, model: str, version: str, latents: Gauge, percentiles: Gauge, windows: Counter) -> None:
        self._labels = model, version
        self._latents = latents
        self._percentiles = percentiles
        self._windows = windows

    def latents_compared(self, nats: float) -> None:
        """A window of posterior means was compared."""
        self._latents.labels(*self._labels).set(nats)
        self._windows.labels(*self._labels, "latents").inc()

    def percentiles_compared(self, index: float) -> None:
        """A window of anomaly percentiles was compared."""
        self._percentiles.labels(*self._labels).set(index)
        self._windows.labels(*self._labels, "percentiles").inc()
