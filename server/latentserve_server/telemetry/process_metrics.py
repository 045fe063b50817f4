"""A process's registry: Prometheus's own metrics of it, its memory's limit, and lost log lines; and the listener for
scrapes of one."""

from __future__ import annotations

import os
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from latentserve.control_group import memory_limit
from latentserve_server.certificates import Certificates
from latentserve_server.errors import ConfigError
from latentserve_server.telemetry.log_writer import LogWriter
from latentserve_server.telemetry.metrics_listener import MetricsListener
from latentserve_server.telemetry.open_files import MAX_SCRAPES

_SCRAPE_SECONDS = 10.0
"""Prometheus's own patience."""


def process_registry(log: LogWriter | None) -> CollectorRegistry:
    """A registry with the metrics of this process; `log` is where its log lines go."""
    registry = CollectorRegistry()
    registry.register(_DroppedLines(log))
    registry.register(_MemoryLimit())
    ProcessCollector(registry=registry)
    return registry


def measure_certificates(registry: CollectorRegistry, certificates: Certificates | None) -> None:
    """Show in a registry when the server's certificate ends, and how often none could be taken; nothing without TLS."""
    if certificates is not None:
        registry.register(_CertificateMetrics(certificates))


def serve_registry(
    registry: CollectorRegistry, host: str, port: int, certificates: Certificates | None = None
) -> MetricsListener:
    """Answer scrapes of a registry at host:port/metrics from threads: https with `certificates`, else http.

    Raises:
        ConfigError: the address cannot be bound.
    """
    try:
        return MetricsListener(
            host,
            port,
            make_wsgi_app(registry),
            max_requests=MAX_SCRAPES,
            seconds=_SCRAPE_SECONDS,
            tls=None if certificates is None else lambda: certificates.current().context,
        )
    except OSError as error:
        raise ConfigError(f"--metrics-listen {host}:{port}: {error.strerror}") from error


class _DroppedLines(Collector):
    """Reads the counter of a log, which counts before there are metrics."""

    def __init__(self, log: LogWriter | None) -> None:
        self._log = log

    def collect(self) -> Iterator[CounterMetricFamily]:
        name, text = "latentserve_log_lines_dropped", "Log lines that could not be written."
        yield CounterMetricFamily(name, text, value=self._log.dropped if self._log else 0)


class _CertificateMetrics(Collector):
    """Looks at the certificates when it is asked, so that a server which nobody connects to notices new ones, too."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def describe(self) -> Iterator[Metric]:
        """Their names, for scrapes that ask for some metrics alone."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        expiry = self._certificates.current().expiry
        name, text = "latentserve_tls_certificate_expiry_timestamp_seconds", "When the server's certificate ends."
        yield GaugeMetricFamily(name, text, value=expiry)
        name, text = "latentserve_tls_reload_failures", "Certificates in the server's files that could not be taken."
        yield CounterMetricFamily(name, text, value=self._certificates.failures)


class _MemoryLimit(Collector):
    """Reads what the control group allows, which may change while the process runs."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        of_machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        allowed = memory_limit()
        name, text = "latentserve_memory_limit_bytes", "Memory of the control group, or of the machine if that is less."
        yield GaugeMetricFamily(name, text, value=of_machine if allowed is None else min(allowed, of_machine))
