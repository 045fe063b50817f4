"""A server of canned replies that does to each attempt what a test tells it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from client.canned_replies import Generation, Models, Refusal
from grpc import ServicerContext

from latentserve.v1 import generation_pb2_grpc, models_pb2_grpc
from latentserve_client import CHANNEL_OPTIONS


@dataclass(frozen=True)
class Busy:
    """The fault of a server that is too busy, and says so many milliseconds."""

    pushback: str


@dataclass
class Script(grpc.ServerInterceptor):
    """Notes every attempt, sends its request id back and answers it with the next fault, if there is one.

    Attributes:
        faults: what is done with the next attempts: a status to say, Busy, "stall", or a function that spoils a reply.
            Of a stream it is done to the first chunk, or to the one that is named before it in a tuple; "end" ends it
            there, and "more" adds a chunk.
        attempts: method, request id and request of every attempt that reached the server, retries included.
        stalled: the request ids of the calls that the server is sitting on.
        ended: the request ids of the streams that have ended, however they did.
        authorizations: what each attempt said of who calls; empty where it said nothing.
    """

    faults: list[Any] = field(default_factory=list)
    attempts: list[tuple[str, str, Any]] = field(default_factory=list)
    stalled: queue.Queue[str] = field(default_factory=queue.Queue)
    ended: queue.Queue[str] = field(default_factory=queue.Queue)
    authorizations: list[str] = field(default_factory=list)

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(details)
        request_id = str(dict(details.invocation_metadata)["x-request-id"])
        method = details.method.rpartition("/")[2]

        def begin(request: Any, context: ServicerContext) -> Any:
            self.authorizations.append(str(dict(details.invocation_metadata).get("authorization", "")))
            self.attempts.append((method, request_id, request))
            context.set_trailing_metadata((("x-request-id", request_id),))
            return self.faults.pop(0) if self.faults else None

        def answer(request: Any, context: ServicerContext) -> Any:
            self._meet(fault := begin(request, context), request_id, context)
            try:
                response = handler.unary_unary(request, context)
            except Refusal as refusal:
                context.abort(*refusal.args)
            if callable(fault):
                fault(response)
            return response

        def stream(request: Any, context: ServicerContext) -> Iterator[Any]:
            context.add_callback(lambda: self.ended.put(request_id))
            fault, after = begin(request, context), 0
            if isinstance(fault, tuple):
                after, fault = fault
            for position, response in enumerate(handler.unary_stream(request, context)):
                if position == after:
                    self._meet(fault, request_id, context)
                if callable(fault) and position == after:
                    fault(response)
                if fault == "end" and position == after:
                    return
                yield response
            if fault == "more":
                yield response

        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                stream, handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)

    def _meet(self, fault: Any, request_id: str, context: ServicerContext) -> None:
        if isinstance(fault, Busy):
            context.set_trailing_metadata((("x-request-id", request_id), ("grpc-retry-pushback-ms", fault.pushback)))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "told to be busy")
        if isinstance(fault, grpc.StatusCode):
            context.abort(fault, f"told to say {fault.name}")
        if fault == "stall":
            context.add_callback((gone := threading.Event()).set)
            self.stalled.put(request_id)
            gone.wait()


@contextmanager
def scripted_server(script: Script) -> Iterator[str]:
    """The address of a running server that follows the script."""
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, interceptors=[script], options=CHANNEL_OPTIONS)
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(Generation(), server)
        models_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(grace=None).wait()
