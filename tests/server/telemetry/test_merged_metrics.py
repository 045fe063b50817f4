"""Metrics of several processes as those of one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

from certificates import LOCAL, Authority
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from latentserve_server.certificates import Certificates
from latentserve_server.telemetry.merged_metrics import GAUGES, MergedMetrics, Snapshots, SupervisorMetrics, snapshot
from latentserve_server.telemetry.metrics import Metrics
from latentserve_server.telemetry.process_metrics import measure_certificates


def shown(merged: MergedMetrics, name: str, **labels: str) -> float | None:
    """The value of the one sample with this name and these labels; None where there is none."""
    samples = [sample for family in merged.families() for sample in family.samples]
    values = [each.value for each in samples if each.name == name and labels.items() <= each.labels.items()]
    assert len(values) <= 1
    return values[0] if values else None


def worker(*batches: int) -> Metrics:
    """The metrics of a process that has run batches of so many rows, each for one call."""
    metrics = Metrics()
    for rows in batches:
        run(metrics, rows)
    return metrics


def run(metrics: Metrics, rows: int) -> None:
    """Count a batch of so many rows, and its one call."""
    metrics.call_started("Sample")
    metrics.observer("vae", 1, "decoder").batch_ran(rows, 0, 0.001)
    metrics.call_ended("Sample", "vae", "OK", 0.001)


CALLS = "latentserve_requests_total"
ROWS = "latentserve_batch_rows_sum"


def test_counts_are_summed_and_stay_when_a_process_has_ended() -> None:
    merged, second = MergedMetrics(), worker(16, 16)
    merged.note("1", snapshot(worker(8).registry))
    merged.note("2", snapshot(second.registry))
    assert (shown(merged, CALLS, code="OK"), shown(merged, ROWS)) == (3, 40)
    merged.forget("1")
    assert (shown(merged, CALLS, code="OK"), shown(merged, ROWS)) == (3, 40)
    run(second, 1)
    merged.note("1", snapshot(worker(2).registry))
    merged.note("2", snapshot(second.registry))
    assert (shown(merged, CALLS, code="OK"), shown(merged, ROWS)) == (5, 43)
    assert shown(merged, "latentserve_batch_rows_bucket", le="8.0") == 3
    assert shown(merged, "latentserve_batch_rows_bucket", le="+Inf") == 5


def test_counts_of_a_graph_stay_until_no_process_has_it_open() -> None:
    merged, both = MergedMetrics(), [worker(8), worker(4)]
    for number, metrics in enumerate(both):
        merged.note(str(number), snapshot(metrics.registry))
    both[0].version_closed("vae", 1)
    merged.note("0", snapshot(both[0].registry))
    assert shown(merged, ROWS) == 12
    run(both[0], 1)  # it is open again
    merged.note("0", snapshot(both[0].registry))
    assert shown(merged, ROWS) == 13
    for number, metrics in enumerate(both):
        metrics.version_closed("vae", 1)
        merged.note(str(number), snapshot(metrics.registry))
    assert shown(merged, ROWS) is None
    assert shown(merged, CALLS, code="OK") == 3


def test_gauges_are_summed_only_where_a_sum_says_something() -> None:
    merged = MergedMetrics()
    for number, invariant in enumerate((1, 0)):
        registry = CollectorRegistry()
        for name in ("queue_rows", "model_state", "model_batch_invariant"):
            gauge = Gauge(f"latentserve_{name}", "text", ("model",), registry=registry)
            gauge.labels("vae").set(invariant if name == "model_batch_invariant" else 1)
        Counter("process_cpu_seconds", "text", registry=registry).inc(number)
        merged.note(str(number), snapshot(registry))
    assert shown(merged, "latentserve_queue_rows") == 2
    assert shown(merged, "latentserve_model_state") == 1
    assert shown(merged, "latentserve_model_batch_invariant") == 0
    assert [shown(merged, "process_cpu_seconds_total", worker=who) for who in ("0", "1")] == [0, 1]


def test_it_is_said_of_every_gauge_what_several_come_to(tmp_path: Path) -> None:
    metrics = Metrics()
    Authority().issue(*LOCAL).write(tmp_path)
    measure_certificates(metrics.registry, Certificates(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key")))
    SupervisorMetrics(metrics.registry, lambda: 2)
    gauges = {family.name for family in metrics.registry.collect() if family.type == "gauge"}
    assert {name for name in gauges if not name.startswith("process_")} == GAUGES.keys()


def shown_traces(merged: MergedMetrics, name: str) -> list[str]:
    """The traces of the exemplars of a histogram."""
    samples = [sample for family in merged.families() if family.name == name for sample in family.samples]
    return [sample.exemplar.labels["trace_id"] for sample in samples if sample.exemplar is not None]


def test_of_exemplars_the_latest_is_shown_also_where_its_process_has_ended() -> None:
    merged, both, name = MergedMetrics(), [Metrics(), Metrics()], "latentserve_request_duration_seconds"
    for trace, number in (("a" * 32, 0), ("b" * 32, 1)):
        both[number].call_started("Sample")
        both[number].call_ended("Sample", "vae", "OK", 0.001, trace)
    for number in (1, 0):
        merged.note(str(number), snapshot(both[number].registry))
    assert shown_traces(merged, name) == ["b" * 32]
    merged.forget("1")
    merged.note("0", snapshot(both[0].registry))
    assert shown_traces(merged, name) == ["b" * 32]


def test_the_exemplars_of_a_closed_version_are_forgotten() -> None:
    merged, metrics, name = MergedMetrics(), Metrics(), "latentserve_queue_duration_seconds"
    metrics.observer("vae", 1, "decoder").calls_waited([(0.001, "a" * 32)])
    merged.note("1", snapshot(metrics.registry))
    assert shown_traces(merged, name) == ["a" * 32]
    metrics.version_closed("vae", 1)
    merged.note("1", snapshot(metrics.registry))
    assert shown_traces(merged, name) == []
    metrics.observer("vae", 1, "decoder").calls_waited([(0.001, "")])
    merged.note("1", snapshot(metrics.registry))
    assert shown_traces(merged, name) == []


class Interrupted(Collector):
    """A counter that is read at once, but for the first time: not until it was read again, where that may happen."""

    def __init__(self) -> None:
        self._turns = iter(range(1, 10))
        self._again = threading.Event()

    def collect(self) -> Iterator[Metric]:
        metric = Metric("latentserve_requests", "text", "counter")
        metric.add_sample(CALLS, {}, value := next(self._turns))
        if value == 1:
            self._again.wait(0.2)
        else:
            self._again.set()
        yield metric


async def test_scrapes_at_a_time_count_nothing_twice() -> None:
    merged, registry = MergedMetrics(), CollectorRegistry(support_collectors_without_names=True)
    registry.register(Interrupted())
    snapshots = Snapshots(registry)

    async def ask() -> None:
        merged.note("1", await snapshots.take())

    await asyncio.gather(ask(), ask())
    assert shown(merged, CALLS) == 2
