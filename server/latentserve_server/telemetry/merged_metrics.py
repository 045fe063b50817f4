"""The metrics of several processes as those of one server, and what a supervisor counts of its workers.

What is counted is summed, and goes on where a process ends: what it had counted when it last told is kept. Of gauges,
the greatest or least value counts where a sum says nothing, or the mean where each value is of about as many rows. What
is known of a process alone, such as its memory, has a label that names it. Of exemplars the latest is shown.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from statistics import fmean
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from latentserve_server.blocking_calls import on_thread
from latentserve_server.certificates import Certificates
from latentserve_server.telemetry.metrics_listener import MetricsListener
from latentserve_server.telemetry.process_metrics import serve_registry

_COUNTED = ("counter", "histogram")
_CREATED = "_created"
_OF_A_PROCESS = "process_"

GAUGES: Mapping[str, Callable[[list[float]], float]] = {
    "latentserve_requests_in_flight": sum,
    "latentserve_request_bytes_in_flight": sum,
    "latentserve_queue_rows": sum,
    "latentserve_access_files_stale": max,
    "latentserve_graph_memory_bytes": sum,
    "latentserve_graph_cpu_nodes": max,
    "latentserve_graph_fell_back": max,
    "latentserve_model_info": max,
    "latentserve_model_batch_invariant": min,
    "latentserve_model_state": max,
    "latentserve_model_missing": max,
    "latentserve_model_broken": max,
    "latentserve_alias_stuck": max,
    "latentserve_latent_drift_nats": fmean,
    "latentserve_anomaly_percentile_psi": fmean,
    "latentserve_repository_unreadable": max,
    "latentserve_build_info": max,
    "latentserve_memory_limit_bytes": max,
    "latentserve_workers": sum,
    "latentserve_tls_certificate_expiry_timestamp_seconds": min,
}
"""What the values of several processes come to, by the gauge's name."""

Families: TypeAlias = list[Metric]
"""Metrics as prometheus_client writes them."""

_Labels: TypeAlias = tuple[tuple[str, str], ...]
_Series: TypeAlias = tuple[str, _Labels]
"""A family's name, and the labels of a sample but for the bounds of buckets."""
_Sample: TypeAlias = tuple[str, _Labels]
_Values: TypeAlias = dict[_Series, dict[_Sample, float]]


def snapshot(registry: CollectorRegistry) -> str:
    """What a registry shows, to be sent to another process."""
    families = (
        [
            family.name,
            family.type,
            family.documentation,
            [[each.name, each.labels, each.value, each.exemplar] for each in family.samples],
        ]
        for family in registry.collect()
    )
    return json.dumps(list(families))


class Snapshots:
    """The snapshots of a registry, taken on threads.

    They are taken one after another: of two at a time the older one may be told last, and what is counted would seem to
    have begun anew.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._turn = asyncio.Lock()

    async def take(self) -> str:
        """What the registry shows now.

        Raises:
            OSError: there can be no further thread.
        """
        async with self._turn:
            return await on_thread("metrics", snapshot, self._registry)


class MergedMetrics:
    """The metrics of all processes, as far as they told."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[str, str]] = {}
        self._told: dict[str, _Values] = {}
        self._kept: _Values = {}
        self._exemplars: dict[_Sample, Exemplar] = {}

    def note(self, process: str, told: str) -> None:
        """Note the snapshot of a process."""
        values: _Values = {}
        for family, kind, text, samples in json.loads(told):
            self._kinds.setdefault(family, (kind, text))
            for name, labels, value, exemplar in samples:
                if family.startswith(_OF_A_PROCESS):
                    labels["worker"] = process
                series = family, _sorted(labels, but="le")
                sample = name, _sorted(labels)
                values.setdefault(series, {})[sample] = value
                if exemplar is not None:
                    self._note_exemplar(sample, Exemplar(*exemplar))
        self._keep_what_ends(process, values)
        self._told[process] = values

    def forget(self, process: str) -> None:
        """Note that a process has ended."""
        self._keep_what_ends(process, {})
        self._told.pop(process, None)

    def families(self) -> Families:
        """What a scrape shows."""
        self._drop_closed_versions()
        merged: dict[str, dict[_Sample, list[float]]] = {family: defaultdict(list) for family in self._kinds}
        for values in (*self._told.values(), self._kept):
            for (family, _), samples in values.items():
                for sample, value in samples.items():
                    merged[family][sample].append(value)
        metrics, exemplars = [], self._exemplars
        self._exemplars = {}  # those of what is not shown any more are left behind
        for family, samples_of_all in merged.items():
            kind, text = self._kinds[family]
            metric = Metric(family, text, kind)
            for (name, labels), found in samples_of_all.items():
                exemplar = exemplars.get((name, labels))
                if exemplar is not None:
                    self._exemplars[name, labels] = exemplar
                metric.add_sample(name, dict(labels), _merge(family, kind, name, found), exemplar=exemplar)
            metrics.append(metric)
        return metrics

    def _note_exemplar(self, sample: _Sample, exemplar: Exemplar) -> None:
        """Note it unless there is a later one: Prometheus takes none that is earlier than its last."""
        known = self._exemplars.get(sample)
        if known is None or float(known.timestamp or 0.0) < float(exemplar.timestamp or 0.0):
            self._exemplars[sample] = exemplar

    def _keep_what_ends(self, process: str, now: _Values) -> None:
        """Keep the counts of the series that the process does not go on with. A graph may be opened anew, from 0."""
        for series, before in self._told.get(process, {}).items():
            after = now.get(series, {})
            counts = self._kinds[series[0]][0] in _COUNTED and not series[0].startswith(_OF_A_PROCESS)
            if counts and any(after.get(sample, -1.0) < value for sample, value in before.items()):
                kept = self._kept.setdefault(series, {})
                for sample, value in before.items():
                    is_time = sample[0].endswith(_CREATED)
                    kept[sample] = min(kept.get(sample, value), value) if is_time else kept.get(sample, 0.0) + value

    def _drop_closed_versions(self) -> None:
        """Show nothing of a version that no process has open any more."""
        if self._told:
            shown = set[_Series]().union(*self._told.values())
            closed = [kept for kept in self._kept if kept not in shown and "version" in dict(kept[1])]
            for series in closed:
                del self._kept[series]


class SupervisorMetrics:
    """What a supervisor counts of its workers, in a registry."""

    def __init__(self, registry: CollectorRegistry, workers: Callable[[], int]) -> None:
        """`workers` tells how many take calls."""
        self.registry = registry
        text = "Worker processes that take calls."
        Gauge("latentserve_workers", text, registry=registry).set_function(workers)
        text = "Worker processes that were started again."
        self._restarts = Counter("latentserve_worker_restarts", text, registry=registry)

    def restarted(self) -> None:
        """A worker was started again."""
        self._restarts.inc()


def serve_merged(
    host: str, port: int, families: Callable[[], Families], certificates: Certificates | None = None
) -> MetricsListener:
    """Answer scrapes as `serve_registry` does, with what `families` returns, which is called on a thread.

    Raises:
        ConfigError: the address cannot be bound.
    """
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(_Asked(families))
    return serve_registry(registry, host, port, certificates)


class _Asked(Collector):
    def __init__(self, families: Callable[[], Families]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families()


def _merge(family: str, kind: str, name: str, values: list[float]) -> float:
    if kind in _COUNTED:
        return min(values) if name.endswith(_CREATED) else sum(values)
    return GAUGES.get(family, max)(values)


def _sorted(labels: Mapping[str, Any], but: str = "") -> _Labels:
    return tuple(sorted((name, value) for name, value in labels.items() if name != but))
