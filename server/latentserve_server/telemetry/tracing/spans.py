"""Spans of calls and of batches in OpenTelemetry's terms, sent to a collector from a thread of its own.

Spans are made once they have ended, and only their ids before: a seventh of what the SDK's tracer takes for one.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from typing import TypeAlias

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from latentserve_server.batching.batch import Batch, Run
from latentserve_server.telemetry.tracing.calls import current_call
from latentserve_server.telemetry.tracing.sampling import Parent

Attributes: TypeAlias = dict[str, str | int]

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NO_ERROR = Status()
_MAX_MESSAGE = 1024
"""Characters of why a batch failed, at most; the message of a call is short."""


class OpenTelemetrySpans:
    """Makes spans, and sends them by OTLP over gRPC. Spans that a slow collector leaves behind are dropped."""

    def __init__(self, endpoint: str, version: str) -> None:
        """`endpoint` is http://host:port, or https:// with TLS; `version` is the server's.

        The environment's OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_… and OTEL_EXPORTER_OTLP_… count.
        """
        own: Attributes = {
            "service.name": "latentserve-server",
            "service.version": version,
            "service.instance.id": str(uuid.uuid4()),
            "process.pid": os.getpid(),
        }
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
        self._processor = BatchSpanProcessor(exporter)
        self._resource = Resource(own).merge(OTELResourceDetector().detect())
        self._scope = InstrumentationScope("latentserve_server", version)
        self._ids = RandomIdGenerator()

    def begin(self, path: str, request_id: str, parent: Parent | None, began_ns: int) -> CallSpan:
        """A span for a call of a method, by its path, that came at a time of the monotonic clock."""
        return CallSpan(self, path.removeprefix("/"), request_id, _context_of(parent), began_ns)

    def of_graph(self, model: str, version: int, graph: str) -> GraphSpans:
        """Spans for the batches of one graph."""
        return GraphSpans(self, version, graph)

    def close(self, seconds: float) -> None:
        """Send what has not been sent, for so many seconds at most, and make no more."""
        # The span processor's own method takes no time limit, and waits half a minute for a collector that is away.
        self._processor._batch_processor.shutdown(timeout_millis=round(1000 * seconds))

    def context(self, parent: SpanContext | None) -> SpanContext:
        """The ids of a new span, in the trace of its parent."""
        trace_id = self._ids.generate_trace_id() if parent is None else parent.trace_id
        state = None if parent is None else parent.trace_state
        return SpanContext(trace_id, self._ids.generate_span_id(), False, _SAMPLED, state)

    def send(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        start_ns: int,
        end_ns: int,
        attributes: Attributes,
        *,
        links: Sequence[Link] = (),
        kind: SpanKind = SpanKind.INTERNAL,
        error: Status = _NO_ERROR,
    ) -> None:
        """Have a span sent; its times are nanoseconds since 1970."""
        span = ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            links=links,
            kind=kind,
            status=error,
            start_time=start_ns,
            end_time=end_ns,
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(span)


class CallSpan:
    """The span of one call, of kind SERVER."""

    __slots__ = ("_attributes", "_began_ns", "_method", "_offset_ns", "_parent", "_rows", "_spans", "context")

    def __init__(
        self, spans: OpenTelemetrySpans, method: str, request_id: str, parent: SpanContext | None, began_ns: int
    ) -> None:
        self._spans = spans
        self._method = method
        self._parent = parent
        self._began_ns = began_ns
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._rows = 0
        self._attributes: Attributes = {
            "rpc.system": "grpc",  # older backends know this name
            "rpc.system.name": "grpc",
            "rpc.method": method,
            "latentserve.request_id": request_id,
        }
        self.context = spans.context(parent)
        """Its ids."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return f"{self.context.trace_id:032x}"

    def at(self, monotonic_ns: int) -> int:
        """A time of the monotonic clock as the spans of this call have it, in nanoseconds since 1970."""
        return monotonic_ns + self._offset_ns

    def note_rows(self, version: int, rows: int) -> None:
        """The call has a graph compute so many more rows."""
        self._rows += rows
        self._attributes["latentserve.version"] = version
        self._attributes["latentserve.rows"] = self._rows

    def end(self, model: str, code: str, message: str) -> None:
        """End it with a status of gRPC: all but OK is an error."""
        attributes, error = self._attributes, _NO_ERROR
        attributes["rpc.response.status_code"] = code
        if model:
            attributes["latentserve.model"] = model
        if code != "OK":
            attributes["error.type"] = code
            error = Status(StatusCode.ERROR, message or code)
        times = self.at(self._began_ns), self.at(time.monotonic_ns())
        self._spans.send(
            self._method, self.context, self._parent, *times, attributes, kind=SpanKind.SERVER, error=error
        )


class GraphSpans:
    """Spans of the queue, the batches and the runs of one graph, where a call is in them that is traced."""

    def __init__(self, spans: OpenTelemetrySpans, version: int, graph: str) -> None:
        self._spans = spans
        self._version = version
        self._graph = graph

    def wait(self, rows: int) -> QueueSpan | None:
        """Follow so many rows of the call that is being answered; None where that is not traced."""
        call = current_call.get()
        if not isinstance(call, CallSpan):
            return None
        call.note_rows(self._version, rows)
        return QueueSpan(self._spans, call, {"latentserve.graph": self._graph, "latentserve.rows": rows})

    def batch_gathered(self, batch: Batch) -> None:
        """Rows have left the queue for the engine."""
        batch.gathered_ns = time.monotonic_ns()
        for wait in _waits(batch):
            wait.gathered_ns = wait.gathered_ns or batch.gathered_ns

    def batch_ended(self, batch: Batch, outcome: Run | Exception) -> None:
        """The batch ran, or why it did not: a span in the trace of its first call, linked to all that are traced."""
        waits = _waits(batch)
        if not waits:
            return
        call = waits[0].call
        context = self._spans.context(call.context)
        for wait in waits:
            wait.end(context)
        attributes: Attributes = {
            "latentserve.graph": self._graph,
            "latentserve.batch.rows": batch.rows,
            "latentserve.batch.padding_rows": batch.padding,
            "latentserve.batch.calls": len(batch.slices),
        }
        error = _NO_ERROR
        if isinstance(outcome, Run):
            times = call.at(outcome.started_ns), call.at(outcome.ended_ns)
            self._spans.send("run", self._spans.context(context), context, *times, {"latentserve.graph": self._graph})
        else:
            attributes["error.type"] = type(outcome).__name__
            error = Status(StatusCode.ERROR, str(outcome)[:_MAX_MESSAGE])
        links = [Link(wait.call.context) for wait in waits]
        times = call.at(batch.gathered_ns), call.at(time.monotonic_ns())
        self._spans.send("batch", context, call.context, *times, attributes, links=links, error=error)


class QueueSpan:
    """What a call's rows wait for a graph, until the first of them leave the queue."""

    __slots__ = ("_attributes", "_began_ns", "_has_ended", "_spans", "call", "gathered_ns")

    def __init__(self, spans: OpenTelemetrySpans, call: CallSpan, attributes: Attributes) -> None:
        self._spans = spans
        self._attributes = attributes
        self._began_ns = time.monotonic_ns()
        self._has_ended = False
        self.call = call
        self.gathered_ns = 0
        """When they left; 0 until then."""

    @property
    def trace_id(self) -> str:
        """That of the call."""
        return self.call.trace_id

    def leave(self) -> None:
        """The call has its result, or waits no longer: it is an error where no row has left the queue."""
        self.end(None)

    def end(self, batch: SpanContext | None) -> None:
        """The rows are in a batch, or in none. Harmless twice."""
        if self._has_ended:
            return
        self._has_ended = True
        links = () if batch is None else (Link(batch),)
        error = _NO_ERROR
        if not self.gathered_ns:
            self._attributes["error.type"] = "dropped"
            error = Status(StatusCode.ERROR, "the call left the queue before it ran")
        parent, end_ns = self.call.context, self.gathered_ns or time.monotonic_ns()
        times = self.call.at(self._began_ns), self.call.at(end_ns)
        context = self._spans.context(parent)
        self._spans.send("queue", context, parent, *times, self._attributes, links=links, error=error)


def _waits(batch: Batch) -> list[QueueSpan]:
    return [wait for part in batch.slices if isinstance(wait := part.ticket.wait, QueueSpan)]


def _context_of(parent: Parent | None) -> SpanContext | None:
    if parent is None:
        return None
    state = TraceState.from_header([parent.state]) if parent.state else None
    return SpanContext(parent.trace_id, parent.span_id, True, TraceFlags(parent.flags), state)
