"""Traces of calls as the rest of the server knows them; what makes spans is loaded where it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Protocol

from latentserve_server.batching.batcher import BatchTraces
from latentserve_server.errors import ConfigError
from latentserve_server.telemetry.tracing.sampling import Parent, Sampling


class CallTrace(Protocol):
    """The trace of one call, from its arrival until it has been answered."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        ...

    def end(self, model: str, code: str, message: str) -> None:
        """The call was answered with a status, by its name in gRPC: all but OK is an error."""
        ...


current_call: ContextVar[CallTrace | None] = ContextVar("current_call", default=None)
"""The trace of the call that the running task answers; None outside one, and where it is not sampled."""


class Spans(Protocol):
    """What makes the spans of the calls that are sampled."""

    def begin(self, path: str, request_id: str, parent: Parent | None, began_ns: int) -> CallTrace:
        """Trace a call of a method, by its path, that came at a time of the monotonic clock."""
        ...

    def of_graph(self, model: str, version: int, graph: str) -> BatchTraces:
        """What follows calls through the batches of one graph."""
        ...

    def close(self, seconds: float) -> None:
        """Send what has not been sent, for so many seconds at most, and make no more."""
        ...


class Tracing:
    """Traces a share of the calls."""

    def __init__(self, sampling: Sampling, spans: Spans) -> None:
        self._sampling = sampling
        self._spans = spans
        self.of_graph = spans.of_graph
        self.close = spans.close

    def begin(
        self, path: str, request_id: str, metadata: Iterable[tuple[str, str | bytes]], began_ns: int
    ) -> CallTrace | None:
        """The trace of a call that came at a time of the monotonic clock; None where it is not sampled."""
        is_sampled, parent = self._sampling.choose(metadata)
        return self._spans.begin(path, request_id, parent, began_ns) if is_sampled else None


def open_tracing(ratio: float, endpoint: str, version: str) -> Tracing | None:
    """What traces `ratio` of the calls, for a collector at an endpoint; None where that is 0: then nothing is loaded.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    if not ratio:
        return None
    try:
        from latentserve_server.telemetry.tracing.spans import OpenTelemetrySpans
    except ImportError as error:
        raise ConfigError(f"--trace-ratio {ratio:g}: needs the package latentserve-server[otel]: {error}") from error
    return Tracing(Sampling(ratio), OpenTelemetrySpans(endpoint, version))
