"""What is known of any process of the server: Prometheus's own metrics of it, and lost log lines."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from latentserve_server.telemetry.log_writer import LogWriter


def process_registry(log: LogWriter | None) -> CollectorRegistry:
    """A registry with the metrics of this process; `log` is where its log lines go."""
    registry = CollectorRegistry()
    registry.register(_DroppedLines(log))
    ProcessCollector(registry=registry)
    return registry


class _DroppedLines(Collector):
    """Reads the counter of a log, which counts before there are metrics."""

    def __init__(self, log: LogWriter | None) -> None:
        self._log = log

    def collect(self) -> Iterator[CounterMetricFamily]:
        name, text = "latentserve_log_lines_dropped", "Log lines that could not be written."
        yield CounterMetricFamily(name, text, value=self._log.dropped if self._log else 0)
