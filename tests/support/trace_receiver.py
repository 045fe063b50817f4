"""A collector of traces in the process of the tests: OTLP over gRPC, which keeps what it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


class Received(NamedTuple):
    """A span that has come, and whose it is."""

    span: Span
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        """As it was given."""
        return self.span.name

    @property
    def attributes(self) -> dict[str, Any]:
        """Texts and numbers by their names."""
        return _values(self.span.attributes)

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self.span.trace_id.hex()

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits."""
        return self.span.span_id.hex()

    @property
    def parent_id(self) -> str:
        """16 hexadecimal digits, or none."""
        return self.span.parent_span_id.hex()

    @property
    def links(self) -> set[tuple[str, str]]:
        """The traces and spans that it has links to."""
        return {(link.trace_id.hex(), link.span_id.hex()) for link in self.span.links}

    @property
    def place(self) -> tuple[str, str]:
        """What a link to it says."""
        return self.trace_id, self.span_id

    @property
    def is_error(self) -> bool:
        """Whether its status says so."""
        return self.span.status.code == Status.STATUS_CODE_ERROR


class TraceReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: list[Received] = []

    async def Export(  # noqa: N802 - the contract's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Take spans."""
        for of_resource in request.resource_spans:
            resource = _values(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.spans.extend(Received(span, resource) for span in of_scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Received]:
        """The spans of a name, which is the last part of a method's."""
        return [span for span in self.spans if span.name.rpartition("/")[2] == name]

    def only(self, name: str) -> Received:
        """The one span of a name."""
        (span,) = self.named(name)
        return span


@asynccontextmanager
async def trace_receiver() -> AsyncIterator[TraceReceiver]:
    """A receiver on a free port of this machine."""
    receiver, server = TraceReceiver(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield receiver
    finally:
        await server.stop(None)


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each) for each in attributes}


def _value(attribute: KeyValue) -> Any:
    kind = attribute.value.WhichOneof("value")
    return getattr(attribute.value, kind) if kind else None
